extension ConsoleAsset {
    /// The style: light and dark as the system says, contrast of 4.5 to 1 and more, no motion.
    static let styleText = rules + steps

    private static let rules = """
        :root {
          color-scheme: light dark;
          --page: #f5f6f8; --card: #ffffff; --line: #d3d8df; --faint: #eef0f3;
          --text: #18202b; --quiet: #515c6b; --link: #0a4fb8; --focus: #0a4fb8;
          --good: #17633a; --good-bg: #e3f4e9; --warn: #7a4a00; --warn-bg: #fdf0d7; --bad: #a81e16; --bad-bg: #fce8e6;
          --button: #0a4fb8; --button-text: #ffffff; --danger: #a81e16;
          --server: #3a63c2; --producer: #0f7a6c; --consumer: #6a4bb8; --internal: #66738a; --client: #8a5a14; --failed: #c2281f;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --page: #0f141a; --card: #171e27; --line: #2f3b49; --faint: #1e2732;
            --text: #e7ecf3; --quiet: #a9b5c4; --link: #8db8ff; --focus: #a8c8ff;
            --good: #86dba4; --good-bg: #16301f; --warn: #f2c572; --warn-bg: #352912; --bad: #ffa59d; --bad-bg: #3d1b19;
            --button: #8db8ff; --button-text: #0b1420; --danger: #ffa59d;
            --server: #7ea2ff; --producer: #4fc3b1; --consumer: #b49bff; --internal: #8f9db2; --client: #d8a657;
              --failed: #ff7a70;
          }
        }
        * { box-sizing: border-box; }
        html { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
        body { margin: 0; background: var(--page); color: var(--text); }
        a { color: var(--link); text-underline-offset: 2px; }
        a:focus-visible, button:focus-visible, input:focus-visible, select:focus-visible, textarea:focus-visible,
          summary:focus-visible,
        [tabindex]:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 3px; }
        main:focus { outline: none; }
        .skip { position: absolute; left: -999px; top: 0; background: var(--card); padding: 8px 14px; z-index: 2; }
        .skip:focus { left: 8px; top: 8px; }
        .top { background: var(--card); border-bottom: 1px solid var(--line); }
        .bar { max-width: 1240px; margin: 0 auto; padding: 0 20px; display: flex; flex-wrap: wrap; align-items: center;
          gap: 4px 24px; }
        .brand { display: inline-flex; align-items: center; gap: 8px; font-weight: 650; color: var(--text);
          text-decoration: none; padding: 12px 0; }
        .brand svg { color: var(--link); }
        nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 2px; margin: 0; padding: 0; }
        nav a { display: block; padding: 13px 12px 10px; color: var(--quiet); text-decoration: none;
          border-bottom: 3px solid transparent; }
        nav a:hover { color: var(--text); border-bottom-color: var(--line); }
        nav a[aria-current] { color: var(--text); font-weight: 600; border-bottom-color: var(--link); }
        .who { margin-left: auto; font-size: 13.5px; }
        .who form { display: inline-flex; gap: 10px; align-items: center; }
        main { max-width: 1240px; margin: 0 auto; padding: 22px 20px 56px; }
        h1 { font-size: 23px; line-height: 1.25; margin: 0 0 6px; font-weight: 650; overflow-wrap: anywhere; }
        h2 { font-size: 17px; margin: 30px 0 10px; font-weight: 650; }
        h2.first { margin-top: 0; }
        h2.inline { display: inline; font-size: 16px; }
        h3 { font-size: 15px; margin: 18px 0 6px; font-weight: 650; }
        p { margin: 0 0 12px; max-width: 78ch; }
        .quiet { color: var(--quiet); }
        .lead { color: var(--quiet); margin-bottom: 16px; max-width: none; }
        code, pre, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
          font-size: .9em; }
        code { overflow-wrap: anywhere; }
        pre { background: var(--faint); border: 1px solid var(--line); border-radius: 6px; padding: 12px; overflow-x: auto;
          margin: 0 0 12px;
          white-space: pre-wrap; overflow-wrap: anywhere; }
        .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; }
        .narrow { max-width: 520px; }
        .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 12px; margin: 0 0 14px;
          padding: 0; }
        .tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; min-width: 0; }
        .tile dt { color: var(--quiet); font-size: 13px; }
        .tile dd { margin: 0; }
        .tile .big { font-size: 25px; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
        .tile .sub { color: var(--quiet); font-size: 13px; }
        .columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 0 24px;
          align-items: start; }
        .scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
          margin: 0 0 14px; }
        .scroll > table { border: 0; }
        table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
        caption { text-align: left; padding: 10px 12px; color: var(--quiet); font-size: 13.5px; }
        th, td { text-align: left; padding: 8px 12px; border-top: 1px solid var(--line); vertical-align: top; }
        thead th { border-top: 0; color: var(--quiet); font-weight: 600; font-size: 13px; background: var(--faint);
          white-space: nowrap; }
        caption + thead th { border-top: 1px solid var(--line); }
        tbody th { font-weight: 500; }
        tbody tr:hover { background: var(--faint); }
        td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
        td.nowrap, .nowrap { white-space: nowrap; }
        td.break { overflow-wrap: anywhere; }
        dl.facts { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 6px 18px; margin: 0; }
        dl.facts dt { color: var(--quiet); }
        dl.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
        .pill { display: inline-block; padding: 1px 9px; border-radius: 99px; border: 1px solid currentColor; font-size: 13px;
          line-height: 1.45;
          color: var(--quiet); background: transparent; white-space: nowrap; }
        [data-tone="good"] { color: var(--good); background: var(--good-bg); }
        [data-tone="warn"] { color: var(--warn); background: var(--warn-bg); }
        [data-tone="bad"] { color: var(--bad); background: var(--bad-bg); }
        .alert, .notice { border: 1px solid var(--line); border-left-width: 5px; border-radius: 6px; padding: 10px 14px;
          max-width: none; }
        .alert { border-color: var(--bad); background: var(--bad-bg); color: var(--bad); }
        .notice { border-left-color: var(--link); background: var(--card); }
        .notice.good { border-color: var(--good); background: var(--good-bg); color: var(--good); }
        .notice.warn { border-color: var(--warn); background: var(--warn-bg); color: var(--warn); }
        button, .button { font: inherit; font-size: 14px; border-radius: 6px; padding: 6px 14px; min-height: 34px;
          border: 1px solid var(--quiet);
          background: var(--card); color: var(--text); cursor: pointer; text-decoration: none; display: inline-block;
            line-height: 1.4; }
        button:hover, .button:hover { border-color: var(--text); }
        button.primary, .button.primary { background: var(--button); color: var(--button-text); border-color: var(--button);
          font-weight: 600; }
        button.danger, .button.danger { color: var(--danger); border-color: var(--danger); }
        button.plain { padding: 2px 10px; min-height: 28px; font-size: 13px; }
        .actions { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0; align-items: center; }
        .actions form { display: contents; }
        .field { margin: 0 0 14px; }
        .field label, fieldset legend { display: block; font-weight: 600; margin-bottom: 3px; padding: 0; }
        .hint { display: block; color: var(--quiet); font-size: 13px; }
        fieldset { border: 0; padding: 0; margin: 0 0 14px; }
        .choice { display: flex; gap: 8px; align-items: baseline; margin: 4px 0; }
        .choice label { font-weight: 400; }
        input[type=text], input[type=password], input[type=number], select, textarea { font: inherit;
          font-size: 14px; padding: 5px 9px;
          min-height: 34px; border: 1px solid var(--quiet); border-radius: 6px; background: var(--card); color: var(--text);
            max-width: 100%; }
        .field input[type=text], .field input[type=password], .field textarea { width: 100%; }
        textarea { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
        .side { display: flex; flex-wrap: wrap; gap: 0 18px; }
        .filters { display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: end; margin: 0 0 14px; }
        .filters .field { margin: 0; }
        .filters .field input[type=text] { width: 190px; }
        .filters label { font-size: 13px; }
        .pages { display: flex; gap: 14px; align-items: center; font-size: 14px; }
        .empty { padding: 24px 16px; color: var(--quiet); }
        details { margin: 0 0 14px; }
        summary { cursor: pointer; }
        .bars { display: flex; align-items: flex-end; gap: 2px; height: 116px; padding-top: 4px;
          border-bottom: 1px solid var(--line); }
        .bars > i { flex: 1 1 0; min-width: 1px; background: var(--link); border-radius: 1px 1px 0 0; }
        .bars > i.h0 { background: var(--line); height: 1px; }
        .share { display: block; height: 6px; background: var(--faint); border-radius: 3px; min-width: 70px; margin-top: 6px;
          overflow: hidden; }
        .share > i { display: block; height: 6px; background: var(--link); border-radius: 3px; }
        .waterfall td, .waterfall th { padding-top: 6px; padding-bottom: 6px; }
        .waterfall .line { width: 38%; min-width: 200px; }
        .waterfall .number { white-space: nowrap; }
        .track { display: block; position: relative; height: 16px; background: var(--faint); border-radius: 3px;
          overflow: hidden; }
        .track > i { position: absolute; top: 3px; height: 10px; min-width: 3px; border-radius: 2px;
          background: var(--internal); }
        .track > i.server { background: var(--server); } .track > i.producer { background: var(--producer); }
        .track > i.consumer { background: var(--consumer); } .track > i.client { background: var(--client); }
        .track > i.waiting { background: repeating-linear-gradient(135deg, var(--internal) 0 4px, transparent 4px 8px);
          border: 1px solid var(--internal); }
        .track > i.failed { background: var(--failed); }
        .branch { color: var(--quiet); }
        .spans { white-space: nowrap; }
        @media (max-width: 640px) { html { font-size: 14.5px; } .who { margin-left: 0; padding-bottom: 8px;
          } dl.facts { grid-template-columns: 1fr; gap: 0; }
          dl.facts dd { margin-bottom: 8px; } }
        @media (prefers-reduced-motion: no-preference) { .tile .big { transition: none; } }
        @media (forced-colors: active) { .track > i, .bars > i, .share > i { forced-color-adjust: none;
          } .pill { border: 1px solid; } }
        @media print { .top, .actions, .filters { display: none; } }

        """

    /// Places and lengths as classes, in half percents: the policy lets no element have a style of its own.
    private static let steps: String = {
        var text = ""
        for half in 0...200 {
            let percent = "\(half / 2)\(half % 2 == 0 ? "" : ".5")%"
            text += ".track>i.o\(half){left:\(percent)}.track>i.w\(half),.share>i.w\(half){width:\(percent)}\n"
        }
        for step in 0...20 where step > 0 { text += ".bars>i.h\(step){height:\(step * 5)%}\n" }
        for depth in 1...12 { text += ".d\(depth){display:block;padding-left:\(depth * 12)px}\n" }
        return text
    }()
}
