extension ConsoleAsset {
    /// The script: signs in with a token behind the address' `#`, and renews figures where a page asks for it. Every page is whole
    /// without it.
    static let scriptText = """
        "use strict";
        (() => {
          // The token behind "#" never leaves the browser by itself; it is taken out of the address before it is shown.
          if (location.hash.startsWith("#token=")) {
            const token = location.hash.slice(7);
            history.replaceState(null, "", location.pathname + location.search);
            const form = document.createElement("form");
            form.method = "post";
            form.action = "/console/login";
            const next = location.pathname === "/console/login" ? "/console" : location.pathname + location.search;
            for (const [name, value] of [["token", token], ["next", next]]) {
              const input = document.createElement("input");
              input.type = "hidden";
              input.name = name;
              input.value = value;
              form.append(input);
            }
            document.body.append(form);
            form.submit();
            return;
          }

          const live = document.querySelector("[data-live]");
          if (!live) return;
          let paused = false;
          let busy = false;
          const note = live.querySelector("[data-note]");
          const button = document.createElement("button");
          button.type = "button";
          button.className = "plain";
          button.textContent = "Pause updates";
          button.setAttribute("aria-pressed", "false");
          button.addEventListener("click", () => {
            paused = !paused;
            button.setAttribute("aria-pressed", String(paused));
            say(paused ? "Updates are paused." : "Updated every 2 seconds.");
            if (!paused) refresh();
          });
          if (note) note.after(" ", button);
          const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
          say("Updated every 2 seconds.");

          const show = (data) => {
            for (const element of live.querySelectorAll("[data-field]")) {
              const text = data.fields[element.dataset.field];
              if (text !== undefined && element.textContent !== text) element.textContent = text;
            }
            for (const element of live.querySelectorAll("[data-tone-of]")) {
              const tone = data.tones[element.dataset.toneOf];
              if (tone !== undefined) element.dataset.tone = tone;
            }
            const bars = live.querySelector("[data-bars]");
            if (bars && data.bars) {
              [...bars.children].forEach((bar, index) => { bar.className = "h" + (data.bars[index] ?? 0); });
              if (data.barsText) bars.setAttribute("aria-label", data.barsText);
            }
          };
          const refresh = async () => {
            if (paused || busy || document.hidden) return;
            busy = true;
            try {
              const answer = await fetch(live.dataset.live, { cache: "no-store" });
              if (!answer.ok) throw new Error(String(answer.status));
              const data = await answer.json();
              if (data.reload) { location.reload(); return; }
              show(data);
              say("Updated every 2 seconds.");
            } catch {
              say("The service doesn't answer; these are the last figures.");
            } finally {
              busy = false;
            }
          };
          document.addEventListener("visibilitychange", refresh);
          setInterval(refresh, 2000);
        })();

        """
}
