// Added by `abench report --serve`: reloads the page when the report has been replaced, at the same place.

(() => {
  const EVERY = 1500;
  const bar = document.createElement("p");
  bar.id = "live";
  bar.setAttribute("role", "status");
  document.querySelector("h1").after(bar);
  let version = null;

  async function look() {
    try {
      const answer = await fetch("state", { cache: "no-store" });
      if (answer.ok) {
        const state = await answer.json();
        version ??= state.version;
        if (state.version !== version) {
          location.reload();
          return;
        }
        bar.textContent = state.note ? `Live: ${state.note}` : "Live";
      }
    } catch {
      bar.textContent = "The server has ended; this page is no longer refreshed.";
    }
    setTimeout(look, EVERY);
  }
  look();
})();
