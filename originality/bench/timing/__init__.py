"""How long steps and audits take, as ratios in one run, and where the time goes."""
