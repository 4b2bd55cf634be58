"""See what every node of a trained network has learned to recognise."""
