"""From pictures to head parameters: detect, crop, matte, fit, judge. Arrays in, arrays out."""
