"""How the worker proves who it is: TLS, SASL, and secrets that stay where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import Settings


class Secret(Settings):
    """Where a secret is: in an environment variable or in a file. The settings never hold it, so nothing prints it."""

    env: str | None = Field(default=None, min_length=1, description="name of the variable that holds it")
    file: Path | None = Field(default=None, description="the file that holds it and nothing else")

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("set exactly one of 'env' and 'file'")
        return self

    def read(self) -> str:
        """The secret as it is now; a line break at the end of a file is no part of it.

        Raises:
            ConfigError: it is not there, or empty.
        """
        secret = os.environ.get(self.env, "") if self.env else self._in_file()
        if not secret:
            place = f"the environment variable {self.env}" if self.env else str(self.file)
            raise ConfigError(f"{place} should hold a secret, but is empty; fill it")
        return secret

    def _in_file(self) -> str:
        assert self.file is not None  # exactly one is set
        try:
            return self.file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(
                f"{self.file}: the secret cannot be read ({reason}); correct path or permissions"
            ) from None


class TlsSettings(Settings):
    """PEM files. The server's certificate is always checked, and that it is for the host we asked for."""

    ca: Path | None = Field(default=None, description="whose certificates are trusted; None: those of the system")
    certificate: Path | None = Field(default=None, description="ours, where the server asks for one")
    key: Path | None = Field(default=None, description="the key of our certificate")

    @model_validator(mode="after")
    def _both(self) -> TlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("'certificate' and 'key' go together; set both or none")
        return self

    def check(self, where: str) -> None:
        """Refuse files that cannot be read before a vendor's library does so less clearly.

        Raises:
            ConfigError: names the setting and the file.
        """
        for name, path in (("ca", self.ca), ("certificate", self.certificate), ("key", self.key)):
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                reason = f"{path} cannot be read ({error.strerror})"
                raise ConfigError(f"{where}.{name}: {reason}; correct path or permissions") from None


class SaslSettings(Settings):
    """Who we are to a broker: `username` and `password`, or a `token`, read again whenever a connection begins."""

    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="OAUTHBEARER takes a token, the others a user and a password"
    )
    username: str | None = Field(default=None, min_length=1, description="of the broker's user")
    password: Secret | None = None
    token: Secret | None = Field(default=None, description="for OAUTHBEARER: where something else keeps a fresh one")

    @model_validator(mode="after")
    def _fits_the_mechanism(self) -> SaslSettings:
        by_token = self.mechanism == "OAUTHBEARER"
        if by_token and (self.token is None or self.username or self.password):
            raise ValueError("OAUTHBEARER takes 'token' alone")
        if not by_token and (self.username is None or self.password is None or self.token):
            raise ValueError(f"{self.mechanism} takes 'username' and 'password'")
        return self
