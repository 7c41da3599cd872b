"""What this machine has: `available` lists the run-times (read `choices` first), `cuda_device` asks the driver."""
