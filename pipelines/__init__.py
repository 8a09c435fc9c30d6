"""The plant: how work is spread, kept, resumed and recorded."""
