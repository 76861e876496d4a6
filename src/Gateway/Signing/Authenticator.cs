using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Keys;
using GpuTasks.Security;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Signing;

/// <summary>Who calls.</summary>
/// <param name="Account">Account of the key; null for the operator.</param>
/// <param name="BodyHash">Hash that the body must have, as signed; null where nothing is signed.</param>
/// <param name="Actor">The key, for the audit log: never its secret.</param>
/// <param name="Settings">What an operator set of the account.</param>
internal sealed record Caller(string? Account, string? BodyHash, string Actor, AccountSettings? Settings = null)
{
    public bool IsOperator => Account is null;
}

/// <summary>
/// Finds out who calls. A signature is checked before the body is read, with the hash that the caller states, so that
/// nobody without a key can make us buffer anything; the body is compared with that hash later.
/// </summary>
internal sealed class Authenticator(
    KeyStore keys, AccountCache accounts, IGrainFactory grains, IOptions<GatewayOptions> options, TimeProvider clock)
{
    private const string DateHeader = "x-acs-date";
    private const string NonceHeader = "x-acs-signature-nonce";
    private const string HashHeader = "x-acs-content-sha256";
    private const string BearerHeader = "x-acs-bearer-token";
    private static readonly string[] MustBeSigned = ["host", DateHeader, NonceHeader, HashHeader];

    private readonly TimeSpan skew = TimeSpan.FromMinutes(options.Value.SignatureSkewMinutes);
    private readonly ConcurrentDictionary<string, NonceWindow> nonces = new(StringComparer.Ordinal);

    /// <summary>The caller of an API request.</summary>
    /// <exception cref="ApiException">There is none that we know.</exception>
    public async ValueTask<Caller> AuthenticateAsync(HttpRequest request)
    {
        var authorization = request.Headers.Authorization.ToString();
        var bearer = authorization.Length > 0 ? BearerKey(authorization) : request.Headers[BearerHeader].ToString() is { Length: > 0 } token ? token : null;
        if (bearer is not null)
        {
            return await FindBearerAsync(bearer, request.HttpContext.RequestAborted);
        }

        if (authorization.Length == 0)
        {
            throw ApiErrors.MissingRequiredHeader("Authorization");
        }

        if (authorization.StartsWith(Acs3Signature.Scheme, StringComparison.Ordinal))
        {
            return await CheckSignatureAsync(request, authorization);
        }

        return options.Value.AllowOlderSignature && authorization.StartsWith(AcsSignature.Scheme, StringComparison.Ordinal)
            ? await CheckOlderSignatureAsync(request, authorization)
            : throw ApiErrors.InvalidArgument($"Authorization: must use {Acs3Signature.Scheme} or 'Bearer' with an API key.");
    }

    /// <summary>A caller of whom nothing is known but whose function it calls, at that account's cost.</summary>
    /// <exception cref="ApiException">The account is disabled.</exception>
    public async ValueTask<Caller> AnonymousAsync(string account, CancellationToken cancellationToken) =>
        new(account, null, "anonymous", Enabled(await accounts.ReadAsync(cancellationToken), account));

    /// <summary>Whether a request carries the operator key, as bearer or as password of Basic.</summary>
    public bool IsOperator(HttpRequest request)
    {
        var authorization = request.Headers.Authorization.ToString();
        return (BearerKey(authorization) ?? BasicPassword(authorization)) is { } key && keys.Current.IsOperatorKey(key);
    }

    private async ValueTask<Caller> FindBearerAsync(string key, CancellationToken cancellationToken)
    {
        var ring = keys.Current;
        if (ring.IsOperatorKey(key))
        {
            return new Caller(null, null, "operator");
        }

        var known = await accounts.ReadAsync(cancellationToken);
        var hash = KeyRing.HashText(key);
        var (account, id) = ring.FindApiKey(key) is { } fromFile ? (fromFile, $"file-{hash[..8]}")
            : known.ApiKey(hash) is { } found ? (Valid(found), found.Key.Id)
            : throw ApiErrors.InvalidAccessKeyId("The API key is not known here.");
        return new Caller(account, null, $"api-key {id}", Enabled(known, account));
    }

    private async ValueTask<(string Secret, Caller Caller)> FindAccessKeyAsync(string id, string? bodyHash, CancellationToken cancellationToken)
    {
        var known = await accounts.ReadAsync(cancellationToken);
        var (account, secret) = keys.Current.FindAccessKey(id) is { } fromFile ? (fromFile.Account, fromFile.Secret)
            : known.AccessKey(id) is { } found ? (Valid(found), found.Key.Secret!)
            : throw ApiErrors.InvalidAccessKeyId($"Access key '{id}' is not known here.");
        return (secret, new Caller(account, bodyHash, $"access-key {id}", known.Account(account)?.Settings));
    }

    /// <summary>The account of a key that operators made, if the key opens it now.</summary>
    private string Valid((AccountKey Key, AccountRecord Account) found) => found.Key.IsValidAt(clock.GetUtcNow())
        ? found.Account.Id
        : throw ApiErrors.InvalidAccessKeyId($"Key '{found.Key.Id}' is {(found.Key.Disabled ? "disabled" : "no longer valid; it was replaced by another")}.");

    private static AccountSettings? Enabled(AccountCache.View known, string account) => known.Account(account)?.Settings is { Disabled: true }
        ? throw ApiErrors.AccessDenied($"Account '{account}' is disabled.")
        : known.Account(account)?.Settings;

    private static Caller Enabled(Caller caller) => caller.Settings is { Disabled: true }
        ? throw ApiErrors.AccessDenied($"Account '{caller.Account}' is disabled.")
        : caller;

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

    private async ValueTask<Caller> CheckSignatureAsync(HttpRequest request, string authorization)
    {
        var given = Acs3Signature.Parse(authorization)
            ?? throw ApiErrors.InvalidArgument($"Authorization: must be '{Acs3Signature.Scheme} Credential=..,SignedHeaders=..,Signature=..'.");
        var dateText = Required(request, DateHeader);
        var nonce = Nonce(request);
        var bodyHash = Required(request, HashHeader);
        if (!DateTimeOffset.TryParseExact(dateText, "yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var date))
        {
            throw ApiErrors.InvalidArgument($"{DateHeader}: must look like 2026-01-02T03:04:05Z.");
        }

        var (secret, caller) = await FindAccessKeyAsync(given.AccessKeyId, bodyHash, request.HttpContext.RequestAborted);
        if (MustBeSigned.FirstOrDefault(name => !given.SignedHeaders.Contains(name)) is { } missing)
        {
            throw ApiErrors.SignatureNotMatch($"Header '{missing}' must be covered by the signature.");
        }

        var (path, query) = RawTarget(request);
        var headers = given.SignedHeaders
            .Select(name => KeyValuePair.Create(name, string.Join(',', request.Headers[name].AsEnumerable())))
            .ToList();
        var canonical = Acs3Signature.CanonicalRequest(request.Method, path, query, headers, bodyHash);
        if (!Acs3Signature.SameText(Acs3Signature.Sign(secret, canonical), given.Signature))
        {
            throw ApiErrors.SignatureNotMatch("The signature does not match; check the secret, and that nothing in between changes path, query or headers.");
        }

        // Only what is signed is worth judging from here on.
        await CheckFreshAsync(request, given.AccessKeyId, nonce, date, $"{DateHeader} {dateText}");
        return Enabled(caller);
    }

    private async ValueTask<Caller> CheckOlderSignatureAsync(HttpRequest request, string authorization)
    {
        var (id, signature) = AcsSignature.Parse(authorization)
            ?? throw ApiErrors.InvalidArgument("Authorization: must be 'acs {access key id}:{signature}'.");
        var dateText = Required(request, "date");
        var nonce = Nonce(request);
        if (request.Headers["x-acs-signature-method"].ToString() is not ("" or "HMAC-SHA1"))
        {
            throw ApiErrors.InvalidArgument("x-acs-signature-method: must be HMAC-SHA1 in this mode.");
        }

        if (!DateTimeOffset.TryParseExact(dateText, "r", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var date))
        {
            throw ApiErrors.InvalidArgument("date: must look like Fri, 02 Jan 2026 03:04:05 GMT.");
        }

        var (secret, caller) = await FindAccessKeyAsync(id, null, request.HttpContext.RequestAborted);
        var (path, query) = RawTarget(request);
        var text = AcsSignature.TextToSign(
            request.Method, path, query, name => request.Headers[name].ToString(),
            request.Headers.Where(header => header.Key.StartsWith("x-acs-", StringComparison.OrdinalIgnoreCase))
                .Select(header => KeyValuePair.Create(header.Key.ToLowerInvariant(), header.Value.ToString())));
        if (!Acs3Signature.SameText(AcsSignature.Sign(secret, text), signature))
        {
            throw ApiErrors.SignatureNotMatch("The signature does not match; check the secret, and that nothing in between changes path, query or headers.");
        }

        await CheckFreshAsync(request, id, nonce, date, $"date {dateText}");
        return Enabled(caller);
    }

    /// <summary>
    /// Refuses what is too old, and what came before: over this gateway always; over another one where a replay could change
    /// something, by asking the grain that all gateways share.
    /// </summary>
    private async ValueTask CheckFreshAsync(HttpRequest request, string keyId, string nonce, DateTimeOffset date, string what)
    {
        var now = clock.GetUtcNow();
        if ((now - date).Duration() > skew)
        {
            throw ApiErrors.SignatureNotMatch(
                $"{what} is more than {skew.TotalMinutes:0} minutes from the server's clock, which shows {now.UtcDateTime:yyyy-MM-ddTHH:mm:ssZ}.");
        }

        var verdict = nonces.GetOrAdd(keyId, _ => new NonceWindow(options.Value.NonceWindow, skew)).Use(nonce, date, now);
        if (verdict == NonceVerdict.Fresh && options.Value.SharedNonces && !HttpMethods.IsGet(request.Method) && !HttpMethods.IsHead(request.Method))
        {
            verdict = await grains.GetGrain<INonceGrain>(keyId).Use(nonce, date, skew, request.HttpContext.RequestAborted).WaitAsync(TimeSpan.FromSeconds(4));
        }

        switch (verdict)
        {
            case NonceVerdict.Used:
                throw ApiErrors.SignatureNotMatch($"{NonceHeader} was used before; every request needs a new one.");
            case NonceVerdict.TooOld:
                throw ApiErrors.SignatureNotMatch($"{what} is older than the requests still remembered of this busy key; sign anew.");
        }
    }

    private static string Nonce(HttpRequest request) => Required(request, NonceHeader) is { Length: <= 256 } nonce
        ? nonce
        : throw ApiErrors.InvalidArgument($"{NonceHeader}: must have at most 256 characters.");

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
