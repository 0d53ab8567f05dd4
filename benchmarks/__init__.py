"""Side-by-side timings against what users would pick instead; ``make bench`` runs them."""
