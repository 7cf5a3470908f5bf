"""The emulated S3: every request signed, allowed and checked; objects streamed from and to files."""
