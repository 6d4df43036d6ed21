/// What all pages of a console have around them, and the pages of signing in. Operable without a script, by keyboard, read aloud.
enum ConsoleLayout {
    static func page(
        title: String, _ body: HTML, navigation: [(path: String, title: String)], request: ConsoleRequest
    ) -> HTML {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>\(title) – Triage</title>
        <link rel="stylesheet" href="\(address: ConsoleAsset.style.address)">
        <link rel="icon" type="image/svg+xml" href="\(address: ConsoleAsset.icon.address)">
        <script src="\(address: ConsoleAsset.script.address)" defer></script>
        </head>
        <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
        <div class="bar">
        <a class="brand" href="/console">\(mark)Triage<span class="quiet"> console</span></a>
        <nav aria-label="Console"><ul>\(navigation.map { item in link(item, isCurrent: isCurrent(item.path, request.path)) })\
        </ul></nav>
        <div class="who">\(who(request))</div>
        </div>
        </header>
        <main id="main" tabindex="-1">
        \(body)
        </main>
        </body>
        </html>

        """
    }

    private static let mark: HTML = """
        <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true" focusable="false"><path d="M1 8h3l2-5 4 10 2-5h3" \
        fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>
        """

    private static func link(_ item: (path: String, title: String), isCurrent: Bool) -> HTML {
        isCurrent
            ? "<li><a href=\"\(address: item.path)\" aria-current=\"page\">\(item.title)</a></li>"
            : "<li><a href=\"\(address: item.path)\">\(item.title)</a></li>"
    }

    /// Whether a link leads to the page that is shown, or to the list that it belongs to.
    private static func isCurrent(_ link: String, _ path: [String]) -> Bool {
        let shown = ([ConsoleSite.path] + path).joined(separator: "/")
        // The first page's path is the beginning of all others.
        return shown == link || (link != ConsoleSite.path && shown.hasPrefix(link + "/"))
    }

    private static func who(_ request: ConsoleRequest) -> HTML {
        if let visitor = request.visitor {
            let name: HTML = visitor.name.map { " as <b>\($0)</b>" } ?? ""
            return """
                <form method="post" action="/console/logout"><span class="quiet">Signed in\(name)</span>
                <input type="hidden" name="form-token" value="\(visitor.formToken)">
                <button type="submit" class="plain">Sign out</button></form>
                """
        }
        return request.canSignIn
            ? "<span class=\"quiet\">Read only</span> <a href=\"/console/login\">Sign in</a>"
            : "<span class=\"quiet\">Read only</span>"
    }

    static func signIn(canSignIn: Bool, next: String, problem: String?) -> HTML {
        guard canSignIn else {
            return """
                <h1>Sign in</h1>
                <p>This console only shows: it has no token. A token comes from the file that the setting
                <code>console-token-file</code> names, or is made and printed when the service is started at a terminal.</p>
                """
        }
        let alert: HTML = problem.map { "<p class=\"alert\" role=\"alert\" id=\"problem\">\($0)</p>" } ?? ""
        let described: HTML = problem == nil ? "" : " aria-describedby=\"problem\" aria-invalid=\"true\""
        return """
            <h1>Sign in</h1>
            <p>Reading needs no token. Replaying, discarding, revealing and exporting do, and each is written down with your name.</p>
            \(alert)
            <form method="post" action="/console/login" class="card narrow" id="sign-in">
            <input type="hidden" name="next" value="\(next)">
            <p class="field"><label for="token">Token</label>
            <input type="password" id="token" name="token" autocomplete="off" required\(described)>
            <span class="hint">From the line that was printed at the start, or from the token file.</span></p>
            <p class="field"><label for="name">Your name <span class="quiet">(optional)</span></label>
            <input type="text" id="name" name="name" autocomplete="username" maxlength="64">
            <span class="hint">Stands beside what you do, for those who come after you.</span></p>
            <p><button type="submit" class="primary">Sign in</button></p>
            </form>
            """
    }

    static func refusal(isSignedIn: Bool) -> HTML {
        isSignedIn
            ? """
            <h1>Not done</h1>
            <p class="alert" role="alert">The form doesn't belong to this session. Nothing was done.</p>
            <p>Load its page again, and send it from there.</p>
            """
            : """
            <h1>Not done</h1>
            <p class="alert" role="alert">Nobody is signed in, so nothing was done.</p>
            <p><a href="/console/login">Sign in with the token</a>, then send the form again.</p>
            """
    }
}
