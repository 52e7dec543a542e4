"""Write docs/results.md, and the results in the README, from the reports in results/reference/smollm2.

Usage: `python docs/build_results.py`.
"""

from generators.results import PAGE, README, readme, text

if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
