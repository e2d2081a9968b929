"""Settings of `quarterturn parts`: which cameras see one part."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quarterturn.worker.contract.settings import Settings

Cameras = Annotated[tuple[str, ...], Field(min_length=1)]


class PartsSettings(Settings):
    """A part is seen by several cameras, whose frames name it by the same `part_id`."""

    cameras: Cameras = Field(description="which see each part; the frames of others count for no part")
    products: dict[str, Cameras] = Field(
        default_factory=dict, description="cameras that see the parts of this product, in place of `cameras`"
    )
    window_s: float = Field(
        default=5.0, gt=0, description="for so long after its first frame a part is waited for; 20,000 records at most"
    )
    port: int = Field(
        default=9601, ge=0, le=65535, description="of metrics and health of this command; all else is as in `http`"
    )

    def of(self, product: str | None) -> tuple[str, ...]:
        """The cameras that see a part of this product; None: nobody knows which it is."""
        return self.cameras if product is None else self.products.get(product, self.cameras)
