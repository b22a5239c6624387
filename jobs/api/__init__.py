"""What ``import originality`` offers: an auditor of single images, and the results of a run."""
