using System.Globalization;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Signing;
using GpuTasks.Gateway.Validation;
using GpuTasks.Nodes;
using GpuTasks.Tasks;
using GpuTasks.Triggers;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Options;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// HTTP triggers (contract 5, 7): hands a request on to the function's web server as it came, and its answer back while it is made.
/// </summary>
internal static class HttpTriggerEndpoint
{
    /// <summary>Where it is mapped, for every method.</summary>
    public const string Pattern = "/http/{account}/{function}/{trigger}/{**path}";

    public static string BasePath(string account, string function, string trigger) => $"/http/{account}/{function}/{trigger}";

    public static void Map(IEndpointRouteBuilder routes)
    {
        var services = routes.ServiceProvider;
        var authenticator = services.GetRequiredService<Authenticator>();
        var budget = services.GetRequiredService<BodyBudget>();
        var rates = services.GetRequiredService<RateLimits>();
        var grains = services.GetRequiredService<IGrainFactory>();
        var options = services.GetRequiredService<IOptions<GatewayOptions>>().Value;
        var clock = services.GetRequiredService<TimeProvider>();
        var functions = services.GetRequiredService<FunctionCache>();
        routes.Map(Pattern, async http =>
        {
            // Sent with every error of the platform, so that callers can tell them from the function's.
            http.Items[RequestShell.ErrorTypeItem] = "FcCommonError";
            HeaderLimits.Check(http.Request);
            if (http.Request.Headers.Upgrade.Count > 0 || http.Features.Get<IHttpUpgradeFeature>() is { IsUpgradableRequest: true })
            {
                throw ApiErrors.InvalidArgument("upgrade: web sockets and other protocols are not handed on; use plain HTTP requests.");
            }

            var account = (string)http.Request.RouteValues["account"]!;
            if (account.Length > 64 || !account.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'))
            {
                throw ApiErrors.InvalidArgument("account: must be 1 to 64 letters, digits, '-' or '_'.");
            }

            var caller = await authenticator.AnonymousAsync(account, http.RequestAborted);
            rates.Take(caller);
            var call = new ApiCall(http, caller, [], grains, functions, options);
            var function = await call.NeedRecentFunctionAsync(call.Function);
            var trigger = await TriggerEndpoints.NeedTriggerAsync(call, function, Names.CheckFunction("triggerName", call.RouteText("trigger")));
            var config = trigger.Spec.Kind == TriggerKind.Http ? TriggerInput.ReadHttp(trigger.Spec) : throw ApiErrors.TriggerNotFound(trigger.Spec.Name);
            if (config.Closed)
            {
                throw ApiErrors.AccessDenied("The trigger's address is switched off by disableURLInternet.");
            }

            var origin = http.Request.Headers.Origin.ToString();
            var preflight = HttpMethods.IsOptions(http.Request.Method) && http.Request.Headers.AccessControlRequestMethod.Count > 0;
            if (config.Cors is not null && preflight)
            {
                config.Cors.Apply(http.Response.Headers, origin, preflight: true);
                http.Response.StatusCode = StatusCodes.Status204NoContent;
                return;
            }

            if (!config.Methods.Contains(http.Request.Method))
            {
                http.Response.Headers.Allow = string.Join(", ", config.Methods);
                throw new ApiException(405, "PathNotSupported", $"{http.Request.Method} is not among the trigger's methods: {string.Join(", ", config.Methods)}.");
            }

            var (claims, bodyHash) = await AdmitAsync(http, config, caller, authenticator, clock);
            using var share = budget.Open();
            var isAsync = IsAsync(http.Request);

            // What was signed is checked before anything is done with it.
            var streams = !isAsync && bodyHash is null && HttpPassage.Streams(http, options.MaxSyncPayloadBytes);
            var body = streams ? [] : await HttpPassage.ReadWholeAsync(http, isAsync ? options.MaxAsyncPayloadBytes : options.MaxSyncPayloadBytes, bodyHash, share);
            call = new ApiCall(http, caller, body, grains, functions, options);
            var handedOn = Describe(http, config, BasePath(account, function.Spec.Name, trigger.Spec.Name), claims);
            if (isAsync)
            {
                await InvocationEndpoints.SubmitAsync(call, function.Spec.Name, trigger.Spec.Qualifier, handedOn);
                return;
            }

            var definition = await call.NeedCallableAsync(function.Spec.Name, trigger.Spec.Qualifier);
            share.Take(streams ? HttpPassage.PartBytes : 0);
            var passage = new HttpPassage(
                http, handedOn, options.MaxSyncPayloadBytes, share, () => config.Cors?.Apply(http.Response.Headers, origin, preflight: false)) { BodyFollows = streams };
            var end = await new SyncCall(call, definition, trigger.Spec.Qualifier, passage).RunAsync();
            await AnswerAsync(call, end, passage);
        }).WithMetadata(new ApiRoute("*", Access.AccountOrOperator));
    }

    private static bool IsAsync(HttpRequest request) =>
        request.Headers[InvocationEndpoints.TypeHeader].ToString().Equals("Async", StringComparison.OrdinalIgnoreCase);

    /// <summary>Lets in who may call, with the claims that the function gets and the hash that was signed.</summary>
    private static async Task<(IReadOnlyList<HttpField> Claims, string? BodyHash)> AdmitAsync(
        HttpContext http, HttpTriggerConfig config, Caller owner, Authenticator authenticator, TimeProvider clock)
    {
        switch (config.Auth)
        {
            case HttpTriggerAuth.Anonymous:
                return ([], null);
            case HttpTriggerAuth.Function:
                var caller = await authenticator.AuthenticateAsync(http.Request);
                return caller.Account == owner.Account ? ([], caller.BodyHash) : throw ApiErrors.AccessDenied("The key belongs to another account than the trigger.");
            default:
                return (await CheckTokenAsync(http.Request, config, clock), null);
        }
    }

    private static async Task<IReadOnlyList<HttpField>> CheckTokenAsync(HttpRequest request, HttpTriggerConfig config, TimeProvider clock)
    {
        var token = config.TokenLookup.Select(place => Find(request, place)).FirstOrDefault(found => found is { Length: > 0 })
            ?? throw new ApiException(401, "AccessDenied", "A token is needed where the trigger's tokenLookup says.");
#pragma warning disable CA5404 // A trigger's config names keys alone: who issues tokens and for whom is the affair of whoever made the keys.
        var result = await new JsonWebTokenHandler().ValidateTokenAsync(token, new TokenValidationParameters
        {
            IssuerSigningKeys = config.Jwks!.GetSigningKeys(),
            ValidateIssuer = false,
            ValidateAudience = false,
            RequireSignedTokens = true,
            LifetimeValidator = (from, until, _, _) => clock.GetUtcNow().UtcDateTime is var now
                && (from is null || now >= from - TimeSpan.FromMinutes(1)) && now < until + TimeSpan.FromMinutes(1),
        });
#pragma warning restore CA5404
        if (!result.IsValid)
        {
            throw new ApiException(403, "AccessDenied", "The token is not valid: its signature, or the time it is for.");
        }

        return [.. config.ClaimHeaders
            .Select(pair => new HttpField(pair.Value, result.Claims.TryGetValue(pair.Key, out var value) ? Convert.ToString(value, CultureInfo.InvariantCulture) ?? "" : ""))
            .Where(field => field.Value.Length is > 0 and <= 1_024 && field.Value.All(c => c is >= ' ' and <= '~'))];
    }

    private static string? Find(HttpRequest request, TokenPlace place)
    {
        var text = place.Place switch
        {
            "header" => request.Headers[place.Name].ToString(),
            "query" => request.Query[place.Name].ToString(),
            _ => request.Cookies[place.Name] ?? "",
        };
        return place.Prefix.Length == 0 ? text
            : text.StartsWith(place.Prefix + " ", StringComparison.OrdinalIgnoreCase) ? text[(place.Prefix.Length + 1)..].Trim()
            : null;
    }

    private static HttpCall Describe(HttpContext http, HttpTriggerConfig config, string basePath, IReadOnlyList<HttpField> claims)
    {
        var raw = http.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;
        var query = raw.IndexOf('?', StringComparison.Ordinal) is >= 0 and var question ? raw[question..] : "";

        // The path as it came, nothing decoded: five slashes lead up to what is the function's.
        var path = raw[..(raw.Length - query.Length)];
        var rest = path.StartsWith('/') ? path.Split('/', 6).ElementAtOrDefault(5) ?? "" : http.Request.RouteValues["path"] as string ?? "";
        var target = $"/{rest}{query}";
        if (target.Any(c => c is <= ' ' or > '~'))
        {
            throw ApiErrors.InvalidArgument("path: must be percent-encoded ASCII.");
        }

        var headers = new List<HttpField>();
        foreach (var (name, values) in http.Request.Headers)
        {
            // A key of the platform's is not for the function; neither may a caller speak as the platform or name claims itself.
            if (!HttpPassage.IsPassedOn(name) || name.StartsWith(':')
                || (config.Auth == HttpTriggerAuth.Function && (name.Equals("authorization", StringComparison.OrdinalIgnoreCase) || name.StartsWith("x-acs-", StringComparison.OrdinalIgnoreCase)))
                || config.ClaimHeaders.Values.Contains(name, StringComparer.OrdinalIgnoreCase))
            {
                continue;
            }

            headers.AddRange(values.Select(value => new HttpField(name, value ?? "")));
        }

        headers.AddRange(claims);
        headers.Add(new HttpField("x-forwarded-for", http.Connection.RemoteIpAddress?.ToString() ?? ""));
        headers.Add(new HttpField("x-forwarded-proto", http.Request.Scheme));
        headers.Add(new HttpField("x-forwarded-host", http.Request.Host.Value ?? ""));
        return new HttpCall { Method = http.Request.Method, Target = target, BasePath = basePath, Headers = headers };
    }

    private static async Task AnswerAsync(ApiCall call, SyncEnd end, HttpPassage passage)
    {
        if (end.Failure is { } failure)
        {
            throw new ApiException(502, "FunctionNotStarted", failure.Message);
        }

        var report = end.Report!;
        if (report.ResponseTruncated)
        {
            throw new ApiException(502, "ResponseTooLarge", $"The function's answer is longer than the {report.Response.Length} bytes that can be passed on.");
        }

        if (report.Outcome is not (RunOutcome.Succeeded or RunOutcome.FunctionError) || report.StatusCode is < 200 or > 599)
        {
            throw report.Outcome switch
            {
                RunOutcome.TimedOut => new ApiException(504, "FunctionTimeout", report.Message),
                RunOutcome.NodeLost or RunOutcome.EngineError or RunOutcome.GpuFault or RunOutcome.Preempted => ApiErrors.PlatformFault($"{report.Outcome}: {report.Message}"),
                _ => new ApiException(502, "UnhandledInvocationError", report.Message.Length > 0 ? report.Message : report.Outcome.ToString()),
            };
        }

        await passage.EndAsync(report, call.Aborted);
    }
}
