import subprocess
import sys

from spot.serving.extra import missing_extra

WITHOUT = """
import importlib, sys
from spot.errors import MissingExtra
for package, room in (("prometheus_client", "metrics"), ("uvicorn", "run"), ("fastapi", "app")):
    kept = sys.modules.pop(package, None)
    sys.modules[package] = None
    for name in ("app", "run", "metrics"):
        sys.modules.pop(f"spot.serving.{name}", None)
    try:
        importlib.import_module(f"spot.serving.{room}")
    except MissingExtra as error:
        assert package.replace("_", "-") in str(error) and "pip install 'spot-transfer[serve]'" in str(error), error
    else:
        raise SystemExit(f"{room} does without {package}")
    del sys.modules[package]
    if kept is not None:
        sys.modules[package] = kept
"""


def test_without_its_package_a_module_says_what_to_install():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


def test_the_message_has_the_install_line():
    assert "pip install 'spot-transfer[serve]'" in str(missing_extra("fastapi"))
