"""Write docs/results.md from the reports in results/reference/smollm2: `python docs/build_results.py`."""

from generators.results import PAGE, text

if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
