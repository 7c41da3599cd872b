"""What is on disk: the manifest of an export (read `manifest.Manifest` first) and graphs read with care."""
