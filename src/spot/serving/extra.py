"""Say which optional packages a server needs."""

from spot.errors import MissingExtra

PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}  # module -> package


def missing_extra(package: str) -> MissingExtra:
    """The error for a package of the extra `serve` that is not installed."""
    return MissingExtra(f"a server needs {package}, which is not installed; run: pip install 'spot-transfer[serve]'")
