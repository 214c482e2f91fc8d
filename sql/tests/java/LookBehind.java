import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/** What java.util.regex makes of look-behind: prints a line of JSON for each pattern and text. Made with OpenJDK 17. */
class LookBehind {
    static final String[] WRITTEN = {
        "(?<=ab?)c", "(?<=a{1,3})b", "(?<!a{1,3})b", "(?<=a{0,3}b)c", "(?<=foo.{0,5})x", "(?<!foo.{0,5})x",
        "(?<=\\d{1,3},)\\d", "(?<=(?:ab|cde))f", "(?<=(ab|c))d", "(?<=(a)b?)c", "(?<=(a)b?)c|(b)", "(?<=x(a|bc)?)d",
        "(?<=^a{0,2})b", "(?<=\\ba{1,2})b", "(?<=a|bc|def)g", "(?<=a*)b", "(?<=a+)b", "(?<=a{2,})b", "(?<!a*)b",
        "(?<=(?:a|b)*)c", "(?<=a?+a)b", "(?<=(?>a|ab)c)d", "(?<=(?>a?)b)c", "(?<=a{1,3}?b)c", "(?<=[ab]{1,2}[^a]?)c",
        "(?<=\\p{Alpha}{1,2}-)\\d", "(?<=\\R)a", "(?<=\\Qa.\\E?)b", "(?<=a(?=b)b?)c", "(?<=(?<=a{1,2})b{1,2})c",
        "(?<=(?<!a{1,2})b{1,2})c", "(?<=a(?:b|cd){1,3})e", "(?<=(?:a?b?){2})c", "(?<=(?:a?){2}b)c", "(?<=)a", "(?<=a??)b",
        "(?<=.{2,4})a", "(?<!.{2,4})a", "(?<=a$)\\s?", "(?<=\\s{0,2}=)\\w+", "(?<=key\\s{0,10}[:=]\\s{0,10})\\w+",
        "(?<=\\$\\d{1,6}\\.)\\d\\d", "(?<=https?://)[^/]+", "(?<!https?:)//\\S+", "(?<=(a)\\1?)b", "(?<=a{1,2}|b)c",
        "(?<=(?i:a{1,2}B))c", "(?i)(?<=a{1,2}b?)C", "(?<=a(b|c)?(d|ef)?)g", "(?<=\\x{61}{1,2})b", "(?<=[]a]{1,2})b",
        "(?<=[^]a]{1,2})b", "(?<=[a&&[^b]]{1,2}c?)b", "(?<=\\h{1,2}a?)b", "(?<=a{3,1})b", "(?<=a", "(?<=a?", "(?<=|ab)c",
        "(?<=ab|)c", "(?<!|ab)c", "a(?<=a|ba)", "(?<=a.?)(?=b)", "(?<=(?:aa|b){0,2}c)a", "(?<=\\w{1,3}\\b)-", "(?<=\\b\\w{1,3})-",
        "(?<=\\Aa?)b", "(?<=\\Ga?)b", "(?<=\\p{L}?\\P{L})a", "(?<=\\d?\\D)a", "(?<=(?<n>a|bb)c?)d", "(?<=\\k<n>)a",
        "(?<=\\ta?)b", "(?<=\\cAa?)b", "(?<=\\e?a)b", "(?<=a\\\\?)b", "(?<=a[.]?)b", "(?<=a\\.?)b", "(?<=a(?#x)?)b",
        "(?<=(?:a(?:b(?:c)?)?)?d)e", "(?<=a{2}b{0,2})c", "(?<=a{0})b", "(?<=a{0,0}b?)c", "(?<!a?b?)c", "(?<!^|a)b",
        "(?<=a{1,2}+)b", "(?<=a{2}+b?)c", "(?<=(?:ab){1,2}+)c", "(?<=(?>ab)c?)d",
    };
    static final String[] TEXTS = {
        "", "a", "b", "c", "ab", "abc", "aab", "aaab", "aaaabc", "abcd", "acd", "cd", "bcd", "xd", "xad", "xbcd", "abf cdef", "foo1234x foo123456x",
        "12,3 1234,5", "aabbc babc bbc", "-1 a-1 ab-1 abc-1 \u00e9-1", "\r\na\na", "a.b a.bb", "price $12.50 $1234567.89",
        "http://a.b/c https://d.e/f //x ftp://y", "key = value key: v2 key   :   v3", "AABC aabC abc ABC", "acdbe abe abcdcde ae aebe",
        "]b ab xb", "aaac aac ac bc", "  ab\tb  b", "a-ab-abc-abcd-", "\ud83d\ude00a \ud83d\ude00\ud83d\ude00a", "de ade abde abcde xde", "bbcd acd bcd",
        "a\\b ab", "aacb abcb acb cb",
    };

    static final Random RANDOM = new Random(17);

    static String atom(int depth) {
        switch (RANDOM.nextInt(depth > 0 ? 9 : 6)) {
            case 0: return "a";
            case 1: return "b";
            case 2: return "c";
            case 3: return "[ab]";
            case 4: return ".";
            case 5: return "\\b";
            case 6: return "(?:" + body(depth - 1) + ")";
            case 7: return "(?=" + body(depth - 1) + ")";
            default: return (RANDOM.nextBoolean() ? "(?<=" : "(?<!") + body(depth - 1) + ")";
        }
    }

    static String piece(int depth) {
        String atom = atom(depth);
        boolean width = !atom.equals("\\b") && !atom.startsWith("(?=") && !atom.startsWith("(?<");
        switch (width ? RANDOM.nextInt(9) : 8) {
            case 0: return atom + "?";
            case 1: return atom + "{1,2}";
            case 2: return atom + "{0,3}";
            case 3: return atom + "{2}";
            case 4: return atom + "??";
            default: return atom;
        }
    }

    static String body(int depth) {
        StringBuilder text = new StringBuilder();
        for (int alternatives = 1 + RANDOM.nextInt(5) / 3; alternatives > 0; alternatives--) {
            for (int pieces = 1 + RANDOM.nextInt(3); pieces > 0; pieces--) {
                text.append(piece(depth));
            }
            if (alternatives > 1) {
                text.append('|');
            }
        }
        return text.toString();
    }

    static String text() {
        StringBuilder text = new StringBuilder();
        for (int length = RANDOM.nextInt(12); length > 0; length--) {
            text.append("aabbc ".charAt(RANDOM.nextInt(6)));
        }
        return text.toString();
    }

    static String json(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 32 || c > 126) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    static void line(String pattern, String text) {
        String start = "{\"pattern\":" + json(pattern) + ",\"text\":" + json(text);
        Pattern compiled;
        try {
            compiled = Pattern.compile(pattern);
        } catch (PatternSyntaxException error) {
            System.out.println(start + ",\"refused\":true}");
            return;
        }
        Matcher matcher = compiled.matcher(text);
        String found = matcher.find() ? matcher.group() : null;
        System.out.println(start + ",\"found\":" + json(found) + ",\"marked\":" + json(compiled.matcher(text).replaceAll("<$0>")) + "}");
    }

    public static void main(String[] arguments) {
        for (String pattern : WRITTEN) {
            boolean refused = false;
            try {
                Pattern.compile(pattern);
            } catch (PatternSyntaxException error) {
                refused = true;
            }
            // Those texts in which it is found, and two others.
            int others = 0;
            for (String text : TEXTS) {
                if (refused || Pattern.compile(pattern).matcher(text).find() || others++ < 2) {
                    line(pattern, text);
                }
                if (refused) {
                    break;
                }
            }
        }
        for (int n = 0; n < 700; n++) {
            line((RANDOM.nextBoolean() ? "(?<=" : "(?<!") + body(2) + ")" + piece(0), text());
        }
    }
}
