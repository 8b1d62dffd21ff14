-- What the test servers answer to a browser: their icon, and their page for everything else.
local folder = ...

return function(ws, uri)
    if uri == "/favicon.ico" then
        ws:serve_http_file(folder .. "favicon.ico", "image/x-icon")
    else
        ws:serve_http_file(folder .. "test.html", "text/html")
    end
end
