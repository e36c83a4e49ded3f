"""Front: what an archive runs before anything is unpacked. Packing puts these files at its root."""
