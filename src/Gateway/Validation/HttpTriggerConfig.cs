using System.Text.Json;
using GpuTasks.Gateway.Http;
using Microsoft.IdentityModel.Tokens;

namespace GpuTasks.Gateway.Validation;

/// <summary>Who may call an HTTP trigger.</summary>
internal enum HttpTriggerAuth
{
    /// <summary>Whoever signs, or sends a key, as for the API: of the function's own account.</summary>
    Function = 0,

    /// <summary>Everybody.</summary>
    Anonymous = 1,

    /// <summary>Whoever has a token signed by a key of the trigger's.</summary>
    Jwt = 2,
}

/// <summary>Where something is in a request.</summary>
/// <param name="Place"><c>header</c>, <c>query</c> or <c>cookie</c>.</param>
/// <param name="Name">Its name there.</param>
/// <param name="Prefix">What stands before it, such as <c>Bearer</c>; empty for nothing.</param>
internal sealed record TokenPlace(string Place, string Name, string Prefix);

/// <summary>The config of an HTTP trigger (contract 7).</summary>
internal sealed record HttpTriggerConfig
{
    public static readonly string[] KnownMethods = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];

    public HttpTriggerAuth Auth { get; init; }

    public IReadOnlyList<string> Methods { get; init; } = [];

    /// <summary>True: the address answers nobody.</summary>
    public bool Closed { get; init; }

    public JsonWebKeySet? Jwks { get; init; }

    public IReadOnlyList<TokenPlace> TokenLookup { get; init; } = [];

    /// <summary>Claims that the function gets as headers: claim to header.</summary>
    public IReadOnlyDictionary<string, string> ClaimHeaders { get; init; } = new Dictionary<string, string>();

    public CorsRules? Cors { get; init; }

    public static HttpTriggerConfig Read(JsonFields fields)
    {
        var auth = fields.Text("authType", 16, text => text is "anonymous" or "function" or "jwt", "must be anonymous, function or jwt") switch
        {
            "anonymous" => HttpTriggerAuth.Anonymous,
            "jwt" => HttpTriggerAuth.Jwt,
            _ => HttpTriggerAuth.Function,
        };
        var methods = fields.Texts("methods", KnownMethods.Length, 64);
        if (methods is null or { Count: 0 } || methods.Any(method => !KnownMethods.Contains(method)))
        {
            fields.Faults.Add(fields.PathOf("methods"), $"must be an array with at least one of {string.Join(", ", KnownMethods)}");
        }

        var config = new HttpTriggerConfig
        {
            Auth = auth,
            Methods = methods ?? [],
            Closed = fields.Flag("disableURLInternet") ?? false,
            Cors = fields.Object("corsConfig") is { IsEmpty: false } cors ? CorsRules.Read(cors) : null,
        };
        return auth == HttpTriggerAuth.Jwt ? config.WithTokens(fields) : config;
    }

    /// <summary>Text that holds JSON, or the object itself: clients send both.</summary>
    private HttpTriggerConfig WithTokens(JsonFields fields)
    {
        var faults = fields.Faults;
        var path = fields.PathOf("authConfig");
        var quiet = new Faults();
        var text = fields.WithFaults(quiet).Raw("authConfig", JsonValueKind.Object) ?? fields.WithFaults(quiet).Text("authConfig", 65_536);
        if (text is null)
        {
            faults.Add(path, "is required with authType jwt: an object with jwks, or text that holds it");
            return this;
        }

        JsonDocument document;
        try
        {
            document = JsonBody.Parse(System.Text.Encoding.UTF8.GetBytes(text));
        }
        catch (ApiException e)
        {
            faults.Add(path, $"must be an object, or text that holds one: {e.Message}");
            return this;
        }

        using (document)
        {
            var inner = new JsonFields(document.RootElement, faults, path + ".");
            foreach (var refused in new[] { "whitelist", "blacklist" })
            {
                if (inner.Has(refused))
                {
                    faults.Add(inner.PathOf(refused), "is not supported; use two triggers, each of its own qualifier");
                }
            }

            return this with
            {
                Jwks = Keys(inner),
                TokenLookup = Places(inner) ?? [new TokenPlace("header", "Authorization", "Bearer")],
                ClaimHeaders = Claims(inner),
            };
        }
    }

    private static JsonWebKeySet? Keys(JsonFields fields)
    {
        var text = fields.Raw("jwks", JsonValueKind.Object);
        try
        {
            if (text is not null && JsonWebKeySet.Create(text) is { Keys.Count: > 0 } set
                && set.GetSigningKeys() is { Count: > 0 } && set.Keys.All(key => !key.HasPrivateKey || key.Kty == JsonWebAlgorithmsKeyTypes.Octet))
            {
                return set;
            }
        }
        catch (Exception e) when (e is ArgumentException or JsonException or FormatException or System.Security.Cryptography.CryptographicException)
        {
            // The rule below says what is expected.
        }

        fields.Faults.Add(fields.PathOf("jwks"), "must be a JSON Web Key Set with at least one key to check signatures with, without private keys");
        return null;
    }

    private static List<TokenPlace>? Places(JsonFields fields)
    {
        const string Rule = "must be parts 'header:Name[:Prefix]', 'query:name' or 'cookie:name', separated by commas";
        if (fields.Text("tokenLookup", 512, rule: Rule) is not { Length: > 0 } text)
        {
            return null;
        }

        var places = new List<TokenPlace>();
        foreach (var part in text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            var words = part.Split(':', 3, StringSplitOptions.TrimEntries);
            if (words.Length < 2 || words[0] is not ("header" or "query" or "cookie") || !IsToken(words[1]))
            {
                fields.Faults.Add(fields.PathOf("tokenLookup"), Rule);
                return null;
            }

            places.Add(new TokenPlace(words[0], words[1], words.ElementAtOrDefault(2) ?? ""));
        }

        return places;
    }

    private static Dictionary<string, string> Claims(JsonFields fields)
    {
        const string Rule = "must be parts 'header:claim:Header-Name', separated by commas";
        var headers = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var part in (fields.Text("claimPassBy", 512, rule: Rule) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (part.Split(':', StringSplitOptions.TrimEntries) is ["header", { Length: > 0 } claim, var header] && IsToken(header)
                && !header.StartsWith("x-fc-", StringComparison.OrdinalIgnoreCase))
            {
                headers[claim] = header;
            }
            else
            {
                fields.Faults.Add(fields.PathOf("claimPassBy"), Rule);
            }
        }

        return headers;
    }

    private static bool IsToken(string text) => text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.');
}

/// <summary>What scripts of other origins may do (contract 7).</summary>
internal sealed record CorsRules
{
    public IReadOnlyList<string> Origins { get; init; } = [];

    public IReadOnlyList<string> Methods { get; init; } = [];

    public IReadOnlyList<string> Headers { get; init; } = [];

    public IReadOnlyList<string> Exposed { get; init; } = [];

    public bool Credentials { get; init; }

    public int? MaxAge { get; init; }

    public static CorsRules Read(JsonFields fields) => new()
    {
        Origins = Texts(fields, "allowOrigins"),
        Methods = Texts(fields, "allowMethods"),
        Headers = Texts(fields, "allowHeaders"),
        Exposed = Texts(fields, "exposeHeaders"),
        Credentials = fields.Flag("allowCredentials") ?? false,
        MaxAge = fields.Integer("maxAge", 0, 86_400),
    };

    /// <summary>Adds what the origin may know; nothing for one that is not named.</summary>
    /// <returns>Whether the origin is allowed.</returns>
    public bool Apply(IHeaderDictionary answer, string origin, bool preflight)
    {
        if (origin.Length == 0 || !(Origins.Contains("*") || Origins.Contains(origin, StringComparer.OrdinalIgnoreCase)))
        {
            return false;
        }

        // A star together with credentials would be refused by browsers.
        answer.AccessControlAllowOrigin = Origins.Contains("*") && !Credentials ? "*" : origin;
        answer.Vary = "Origin";
        if (Credentials)
        {
            answer.AccessControlAllowCredentials = "true";
        }

        if (preflight)
        {
            answer.AccessControlAllowMethods = string.Join(", ", Methods);
            answer.AccessControlAllowHeaders = string.Join(", ", Headers);
            if (MaxAge is { } seconds)
            {
                answer.AccessControlMaxAge = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
            }
        }
        else if (Exposed.Count > 0)
        {
            answer.AccessControlExposeHeaders = string.Join(", ", Exposed);
        }

        return true;
    }

    private static IReadOnlyList<string> Texts(JsonFields fields, string name)
    {
        var texts = fields.Texts(name, 32, 2_048) ?? [];
        if (texts.Any(text => text.Length == 0 || text.Any(c => c is <= ' ' or > '~')))
        {
            fields.Faults.Add(fields.PathOf(name), "must hold printable ASCII texts without blanks");
            return [];
        }

        return texts;
    }
}
