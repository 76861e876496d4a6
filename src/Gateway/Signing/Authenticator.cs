using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Keys;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Signing;

/// <summary>Who calls.</summary>
/// <param name="Account">Account of the key; null for the operator.</param>
/// <param name="BodyHash">Hash that the body must have, as signed; null where nothing is signed.</param>
internal sealed record Caller(string? Account, string? BodyHash)
{
    public bool IsOperator => Account is null;
}

/// <summary>
/// Finds out who calls. A signature is checked before the body is read, with the hash that the caller states, so that
/// nobody without a key can make us buffer anything; the body is compared with that hash later.
/// </summary>
internal sealed class Authenticator(KeyStore keys, IOptions<GatewayOptions> options, TimeProvider clock)
{
    private const string DateHeader = "x-acs-date";
    private const string NonceHeader = "x-acs-signature-nonce";
    private const string HashHeader = "x-acs-content-sha256";
    private static readonly string[] MustBeSigned = ["host", DateHeader, NonceHeader, HashHeader];

    private readonly TimeSpan skew = TimeSpan.FromMinutes(options.Value.SignatureSkewMinutes);
    private readonly ConcurrentDictionary<string, NonceWindow> nonces = new(StringComparer.Ordinal);

    /// <summary>The caller of an API request.</summary>
    /// <exception cref="ApiException">There is none that we know.</exception>
    public Caller Authenticate(HttpRequest request)
    {
        var authorization = request.Headers.Authorization.ToString();
        if (authorization.Length == 0)
        {
            throw ApiErrors.MissingRequiredHeader("Authorization");
        }

        if (BearerKey(authorization) is { } key)
        {
            var ring = keys.Current;
            return ring.FindApiKey(key) is { } account ? new Caller(account, null)
                : ring.IsOperatorKey(key) ? new Caller(null, null)
                : throw ApiErrors.InvalidAccessKeyId("The API key is not known here.");
        }

        return authorization.StartsWith(Acs3Signature.Scheme, StringComparison.Ordinal)
            ? CheckSignature(request, authorization)
            : throw ApiErrors.InvalidArgument($"Authorization: must use {Acs3Signature.Scheme} or 'Bearer' with an API key.");
    }

    /// <summary>Whether a request carries the operator key, as bearer or as password of Basic.</summary>
    public bool IsOperator(HttpRequest request)
    {
        var authorization = request.Headers.Authorization.ToString();
        return (BearerKey(authorization) ?? BasicPassword(authorization)) is { } key && keys.Current.IsOperatorKey(key);
    }

    private static string? BearerKey(string authorization) =>
        AuthenticationHeaderValue.TryParse(authorization, out var header) && header.Scheme.Equals("Bearer", StringComparison.OrdinalIgnoreCase)
            ? header.Parameter ?? ""
            : null;

    private static string? BasicPassword(string authorization)
    {
        if (!AuthenticationHeaderValue.TryParse(authorization, out var header) || !header.Scheme.Equals("Basic", StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }

        var bytes = new byte[header.Parameter?.Length ?? 0];
        if (!Convert.TryFromBase64String(header.Parameter ?? "", bytes, out var length))
        {
            return null;
        }

        var text = Encoding.UTF8.GetString(bytes, 0, length);
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon < 0 ? null : text[(colon + 1)..];
    }

    private Caller CheckSignature(HttpRequest request, string authorization)
    {
        var given = Acs3Signature.Parse(authorization)
            ?? throw ApiErrors.InvalidArgument($"Authorization: must be '{Acs3Signature.Scheme} Credential=..,SignedHeaders=..,Signature=..'.");
        var dateText = Required(request, DateHeader);
        var nonce = Required(request, NonceHeader);
        var bodyHash = Required(request, HashHeader);
        if (!DateTimeOffset.TryParseExact(dateText, "yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var date))
        {
            throw ApiErrors.InvalidArgument($"{DateHeader}: must look like 2026-01-02T03:04:05Z.");
        }

        if (nonce.Length > 256)
        {
            throw ApiErrors.InvalidArgument($"{NonceHeader}: must have at most 256 characters.");
        }

        var key = keys.Current.FindAccessKey(given.AccessKeyId)
            ?? throw ApiErrors.InvalidAccessKeyId($"Access key '{given.AccessKeyId}' is not known here.");

        if (MustBeSigned.FirstOrDefault(name => !given.SignedHeaders.Contains(name)) is { } missing)
        {
            throw ApiErrors.SignatureNotMatch($"Header '{missing}' must be covered by the signature.");
        }

        var (path, query) = RawTarget(request);
        var headers = given.SignedHeaders
            .Select(name => KeyValuePair.Create(name, string.Join(',', request.Headers[name].AsEnumerable())))
            .ToList();
        var canonical = Acs3Signature.CanonicalRequest(request.Method, path, query, headers, bodyHash);
        if (!Acs3Signature.SameText(Acs3Signature.Sign(key.Secret, canonical), given.Signature))
        {
            throw ApiErrors.SignatureNotMatch("The signature does not match; check the secret, and that nothing in between changes path, query or headers.");
        }

        // Only what is signed is worth judging from here on.
        var now = clock.GetUtcNow();
        if ((now - date).Duration() > skew)
        {
            throw ApiErrors.SignatureNotMatch(
                $"{DateHeader} {dateText} is more than {skew.TotalMinutes:0} minutes from the server's clock, which shows {now.UtcDateTime:yyyy-MM-ddTHH:mm:ssZ}.");
        }

        var window = nonces.GetOrAdd(key.Id, _ => new NonceWindow(options.Value.NonceWindow, skew));
        return window.Use(nonce, date, now) switch
        {
            NonceVerdict.Fresh => new Caller(key.Account, bodyHash),
            NonceVerdict.Used => throw ApiErrors.SignatureNotMatch($"{NonceHeader} was used before; every request needs a new one."),
            _ => throw ApiErrors.SignatureNotMatch($"{DateHeader} {dateText} is older than the requests still remembered of this busy key; sign anew."),
        };
    }

    private static string Required(HttpRequest request, string name) =>
        request.Headers[name].ToString() is { Length: > 0 } value ? value.Trim() : throw ApiErrors.MissingRequiredHeader(name);

    /// <summary>Path and query as they stood on the request line.</summary>
    private static (string Path, string Query) RawTarget(HttpRequest request)
    {
        var target = request.HttpContext.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;

        // The absolute form, which proxies may use: only what follows the authority is signed.
        if (!target.StartsWith('/') && target.IndexOf("://", StringComparison.Ordinal) is > 0 and var scheme)
        {
            var slash = target.IndexOf('/', scheme + 3);
            target = slash < 0 ? "/" : target[slash..];
        }

        var question = target.IndexOf('?', StringComparison.Ordinal);
        return question < 0 ? (target, "") : (target[..question], target[(question + 1)..]);
    }
}
