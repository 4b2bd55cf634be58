// Light and dark: as the system has it, until the reader switches.

const THEMES = /** @type {const} */ (["as the system", "light", "dark"]);

/**
 * @param {HTMLButtonElement} button
 * @param {() => void} changed called whenever the colours are others
 */
export function followTheme(button, changed) {
  let at = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    button.textContent = `Theme: ${THEMES[at]}`;
    if (at) document.documentElement.dataset.theme = THEMES[at];
    else delete document.documentElement.dataset.theme;
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
