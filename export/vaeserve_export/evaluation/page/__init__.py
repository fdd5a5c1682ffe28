"""The page of a diagnosis: one HTML file that refers to nothing outside itself."""
