"""The stacks from `infra/`, made in the emulated cloud."""
