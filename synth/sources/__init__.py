"""Where pairs come from: photographs, MR images, slices of scans; and what their history has done to them."""
