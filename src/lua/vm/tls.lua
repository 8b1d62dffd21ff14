-- The TLS handshake of a client's cosocket. Shared by the clients of all APIs.

local _, vm = ...

local natives = vm.natives.vm


-- true | nil, err. `name` is asked for (SNI) and verified. A verified address is no name to ask for
-- (RFC 6066 3), and ngx_lua compares a certificate with names only: whether it is for the address is
-- seen afterwards.
local function shake_hands(sock, name, verify)
    local address = verify and name and natives.is_address(name, sock)
    local ok, err = sock:sslhandshake(false, not address and name or nil, verify)
    if not ok then
        return nil, err
    end
    if address and not natives.certificate_is_for(name, sock) then
        sock:close()
        return nil, "certificate host mismatch"
    end
    return true
end


return { shake_hands = shake_hands }
