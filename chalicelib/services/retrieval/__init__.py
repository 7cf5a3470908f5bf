"""What is handed out: files, frames, bulk data, metadata, pictures, archives, manifests."""
