"""Messages to members' browsers: Web Push."""
