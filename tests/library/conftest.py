"""Places for shared libraries."""

from tests.support.shared_places import bucket, hub, place_of

__all__ = ["bucket", "hub", "place_of"]
