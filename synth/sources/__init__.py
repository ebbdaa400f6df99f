"""The sources of pairs: photographs, MR images, slices of scans; and signs of their earlier processing."""
