// Where the page begins: the switch for light and dark, the link past the navigation, and the first view.

import { startRouter } from "./router.js";
import { chosenTheme, showTheme, switchTheme } from "./theme.js";

showTheme(chosenTheme());
document.getElementById("theme").addEventListener("click", switchTheme);
document.querySelector("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the view's address
  document.getElementById("view").focus();
});
startRouter(document.getElementById("view"));
