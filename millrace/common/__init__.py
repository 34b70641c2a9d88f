"""What the launcher and the workers share, without luigi, Beam or Google."""
