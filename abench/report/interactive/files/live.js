// Added by `abench report --serve`: reloads the page when the report has been replaced, at the same place and with the
// same sorting, filters and columns.

(() => {
  const EVERY = 1500;
  const bar = document.createElement("p");
  bar.id = "live";
  bar.setAttribute("role", "status");
  document.querySelector("h1").after(bar);
  let version = null;
  const kept = sessionStorage.getItem("abench-choices");
  sessionStorage.removeItem("abench-choices");
  if (kept) window.abenchChoices.make(JSON.parse(kept));

  async function look() {
    try {
      const answer = await fetch("state", { cache: "no-store" });
      if (answer.ok) {
        const state = await answer.json();
        version ??= state.version;
        if (state.version !== version) {
          sessionStorage.setItem("abench-choices", JSON.stringify(window.abenchChoices.made()));
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
