"""A package with a gateway, installed as pip would leave it: a module and its entry point, in a folder of its own."""

from pathlib import Path


def install(folder: Path, module: str, source: str, **entry_points: str) -> Path:
    """Put it there; whoever has the folder in PYTHONPATH has the package."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[swarmd.gateways]", *lines, ""]))
    return folder
