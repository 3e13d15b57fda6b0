"""The formats: each module encodes a finding as one line."""
