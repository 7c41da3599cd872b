"""The engine of an export folder that is best on this machine: read `choose.choose_engine` first."""
