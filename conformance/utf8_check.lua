-- Incremental check of UTF-8 (RFC 3629), for text that comes in fragments. check(bytes, state) goes
-- on from the state in which the fragment before ended (0 at first) and returns the new one, or nil
-- as soon as no continuation could make the text valid. Text may end in state 0 only.
-- Owned by frame_echo.lua, which reads it once.

local byte = string.byte

-- What state a first byte leads to. 1 to 3: so many continuation bytes are due. 4 to 7: the same,
-- but the next byte's range is narrower, which keeps out overlong forms (E0, F0), surrogates (ED)
-- and what lies beyond U+10FFFF (F4).
local FIRST = {}
for b = 0x00, 0x7f do FIRST[b] = 0 end
for b = 0xc2, 0xdf do FIRST[b] = 1 end
for b = 0xe0, 0xef do FIRST[b] = 2 end
for b = 0xf0, 0xf4 do FIRST[b] = 3 end
FIRST[0xe0], FIRST[0xed], FIRST[0xf0], FIRST[0xf4] = 4, 5, 6, 7

local LOWEST  = { 0x80, 0x80, 0x80, 0xa0, 0x80, 0x90, 0x80 }
local HIGHEST = { 0xbf, 0xbf, 0xbf, 0xbf, 0x9f, 0xbf, 0x8f }
local NEXT    = { 0, 1, 2, 1, 1, 2, 2 }


local function check(bytes, state)
    for i = 1, #bytes do
        local b = byte(bytes, i)
        if state == 0 then
            state = FIRST[b]
            if not state then
                return nil
            end
        elseif b < LOWEST[state] or b > HIGHEST[state] then
            return nil
        else
            state = NEXT[state]
        end
    end
    return state
end


return check
