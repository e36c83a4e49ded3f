"""Who an account is and where it lives, as auth asks for it."""

from __future__ import annotations

from typing import Protocol


class Account(Protocol):
    """Who a DID is: ``handle`` is confirmed both ways or None, ``pds`` an origin or None."""

    @property
    def did(self) -> str: ...
    @property
    def handle(self) -> str | None: ...
    @property
    def pds(self) -> str | None: ...


class Accounts(Protocol):
    """Where accounts are looked up; ``identity.Identities`` is one."""

    async def get(self, did: str, *, max_age_s: float) -> Account:
        """Raises NotFound for a DID that does not exist, Unavailable when that can't be found out."""
        ...

    async def resolve_handle(self, handle: str) -> str | None:
        """The DID that the handle points at, asked now; None when there is none."""
        ...

    def forget(self, did: str) -> None:
        """The next look-up asks outside, however young what is known."""
        ...
