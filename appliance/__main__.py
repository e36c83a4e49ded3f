"""``python -m appliance``: the commands, from a checkout."""

from appliance.cli import main

main()
