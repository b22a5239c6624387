"""Ray itself: started or joined, kept on loopback, its health, and its end."""
