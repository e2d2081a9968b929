"""The settings of `quarterturn console`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.settings.security import Secret

_LOCAL_NAMES = ("localhost",)


class ConsoleSettings(Settings):
    """The page of `quarterturn console`; a worker does not read this section."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="address to listen on; any other than this machine's own: "
        "'reviewers' must be set, and reading asks for a token, too",
    )  # fmt: skip
    port: int = Field(default=9700, ge=0, le=65535, description="0 takes any free one")
    certificate: Path | None = Field(default=None, description="PEM; with it and 'key' the page is served by HTTPS")
    key: Path | None = Field(default=None, description="the key of the certificate")
    reviewers: dict[str, Secret] = Field(
        default_factory=dict,
        description="who may judge, and the token of each (16 characters or more); the name is in the record",
    )
    workers: tuple[str, ...] = Field(
        default=(), description="addresses of workers whose /readyz is shown, such as http://line-1:9600"
    )
    state: Path = Field(default=Path("state/console"), description="folder of the index; made anew when it is lost")
    keep: int = Field(
        default=20_000, gt=0, description="results that the index holds at most: of each lane, and of those without one"
    )
    keep_days: float = Field(default=14.0, gt=0, description="older results leave the index")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the page."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in _LOCAL_NAMES

    @field_validator("reviewers")
    @classmethod
    def _names_are_short_lines(cls, reviewers: dict[str, Secret]) -> dict[str, Secret]:
        for name in reviewers:
            if not name.strip() or len(name) > 100 or not name.isprintable():
                raise ValueError(f"{name[:40]!r} is no name; take up to 100 characters on one line")
        return reviewers

    @field_validator("workers")
    @classmethod
    def _workers_are_http(cls, workers: tuple[str, ...]) -> tuple[str, ...]:
        for address in workers:
            if not address.startswith(("http://", "https://")):
                raise ValueError(f"{address!r} is no address; write it as http://HOST:PORT")
        return workers

    @model_validator(mode="after")
    def _strangers_are_kept_out(self) -> ConsoleSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' go together; set both or none")
        if not self.is_local and not self.reviewers:
            raise ValueError(
                f"on {self.host} others could reach the page without a token; set 'reviewers', or host: 127.0.0.1"
            )
        return self
