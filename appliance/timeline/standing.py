"""What others vouch for of an account, and what it says it is doing: members of its views."""

from __future__ import annotations

from typing import Any

from appliance.store.actor_reads import Verification
from appliance.timeline import cards, names
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, label, normal_instant, text


def members(state: State, actor: int) -> bytes:
    """``verification`` and ``status``, each with a comma before; mostly nothing."""
    return _verification(state, actor) + _status(state, actor)


def _verification(state: State, actor: int) -> bytes:
    if not state.shared.verifiers:
        return b""
    card = state.cards[actor]
    found = [
        view
        for each in state.verified.get(actor, ())
        if state.sees_actor(each.issuer) and (view := _view(state, actor, each)) is not None
    ]
    trusted = card.did in state.shared.verifiers
    if not found and not trusted:
        return b""
    right = "invalid" if card.did in state.impersonating else "valid"
    verified = "none" if not found else right if any(each["isValid"] for each in found) else "invalid"
    return b',"verification":' + text(
        {
            "verifications": found,
            "verifiedStatus": verified,
            "trustedVerifierStatus": right if trusted else "none",
        }
    )


def _view(state: State, actor: int, said: Verification) -> dict[str, Any] | None:
    """It holds as long as the account goes by the name and the handle that were verified."""
    record = cards.parsed(said.body)
    card, issuer = state.cards[actor], state.cards[said.issuer]
    name, handle = record.get("displayName"), record.get("handle")
    view = {
        "issuer": issuer.did,
        "issuerHandle": issuer.handle,
        "uri": f"at://{issuer.did}/{names.VERIFICATION}/{said.rkey}",
        "isValid": bool(name) and name == card.display_name and bool(handle) and handle == card.handle,
        "createdAt": normal_instant(record.get("createdAt")),
    }
    return view | ({"issuerDisplayName": issuer.display_name} if issuer.display_name else {})


def _status(state: State, actor: int) -> bytes:
    status = state.cards[actor].status
    if status is None or status.uri in state.hidden:
        return b""
    active = b""
    if status.expires_ms is not None:
        is_active = status.expires_ms > state.shared.clock.now_us() // 1000
        active = b',"isActive":true' if is_active else b',"isActive":false'
    own = b',"isDisabled":false' if actor == state.viewer else b""
    labels = joined(map(label, state.labels.get(status.uri, ())))
    return b',"status":{%b,"labels":%b%b%b}' % (status.opening, labels, active, own)
