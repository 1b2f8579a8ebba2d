"""Transports: one file per URL scheme; they move frames of bytes and know nothing of what is in them. Floor 4."""
