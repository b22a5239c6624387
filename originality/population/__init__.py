"""What a sample of a finite collection says of the whole: shares and means with 95 % intervals.

Values and numbers only: no run, no model. How good the intervals are is measured in docs/population.
"""
