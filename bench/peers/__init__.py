"""Other rasterisers on the CPU, to compare with; none is part of the product."""
