"""What a study's records show: arms, pairs, findings and their intervals."""
