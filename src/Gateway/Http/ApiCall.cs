using System.Diagnostics;
using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Signing;
using GpuTasks.Gateway.Validation;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Http;

/// <summary>Whose keys open a path.</summary>
internal enum Access
{
    /// <summary>Any account's, for what is its own.</summary>
    Account = 0,

    /// <summary>The operator's.</summary>
    Operator = 1,

    /// <summary>Both.</summary>
    AccountOrOperator = 2,
}

/// <summary>One authenticated request with its body read.</summary>
internal sealed class ApiCall(HttpContext http, Caller caller, byte[] body, IGrainFactory grains, FunctionCache functions, GatewayOptions options)
{
    /// <summary>With what comes before and after, an answer stays below 5 s also while the store stands still.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(4);

    private static readonly TimeSpan FirstTry = TimeSpan.FromSeconds(1.5);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    private readonly long begun = Stopwatch.GetTimestamp();

    public HttpContext Http => http;

    public string RequestId { get; } = RequestShell.RequestIdOf(http);

    /// <summary>The caller's account. Every grain key starts with it, so that nobody reaches what is another's.</summary>
    public string Account => caller.Account ?? throw ApiErrors.AccessDenied("The operator key belongs to no account; use an account's key.");

    public bool IsOperator => caller.IsOperator;

    /// <summary>The key that calls, without its secret.</summary>
    public string Actor => caller.Actor;

    public byte[] Body => body;

    public IGrainFactory Grains => grains;

    public GatewayOptions Options => options;

    public CancellationToken Aborted => http.RequestAborted;

    public QueryFields Query { get; } = new(http.Request.Query);

    /// <summary>The function that the path names; checked, since it becomes a part of grain keys.</summary>
    public string Function => Names.CheckFunction("functionName", RouteText("function"));

    /// <summary>The version that the path names.</summary>
    public string Version => RouteText("version") is var version && Names.IsVersion(version) ? version : throw ApiErrors.VersionNotFound(version);

    /// <summary>The alias that the path names; perhaps there is none such.</summary>
    public string Alias => RouteText("alias") is var alias && Names.IsName(alias) ? alias : throw ApiErrors.AliasNotFound(alias);

    /// <summary>The task that the path names; checked, since it becomes a part of grain keys.</summary>
    public string TaskId => Names.CheckTaskId("taskId", RouteText("taskId"));

    public IFunctionGrain FunctionGrain(string function) => grains.Get<IFunctionGrain>($"{Account}/{function}");

    /// <summary>The function, which must exist in the caller's account.</summary>
    public async Task<FunctionSnapshot> NeedFunctionAsync(string function) =>
        await InTimeAsync(() => FunctionGrain(function).Get(Aborted)) ?? throw ApiErrors.FunctionNotFound(function);

    /// <summary>The function as it was at most a second ago. Nothing may be refused for what it says: see <see cref="NeedFunctionAsync"/>.</summary>
    public async Task<FunctionSnapshot> NeedRecentFunctionAsync(string function) =>
        await InTimeAsync(() => functions.GetAsync($"{Account}/{function}")) ?? throw ApiErrors.FunctionNotFound(function);

    /// <summary>To be called after every change of a function, so that the caller's next request meets it as it is.</summary>
    public void FunctionChanged(string function) => functions.Forget($"{Account}/{function}");

    /// <summary>The qualifier that the query names; well formed, but perhaps there is none such.</summary>
    public string Qualifier => Names.CheckQualifier(Query.Text("qualifier"));

    /// <summary>The definition that a qualifier of the function stands for; it must exist.</summary>
    public async Task<FunctionSnapshot> NeedDefinitionAsync(string function, string qualifier)
    {
        if (await InTimeAsync(() => FunctionGrain(function).GetQualified(qualifier, RequestId, Aborted)) is { } found)
        {
            return found;
        }

        await NeedFunctionAsync(function);
        throw ApiErrors.QualifierNotFound(qualifier);
    }

    /// <summary>The function as it was at most a second ago, and the version of it that a call to a qualifier gets.</summary>
    public async Task<(FunctionSnapshot Function, string? Version)> NeedRecentVersionAsync(string name, string qualifier)
    {
        var function = await NeedRecentFunctionAsync(name);
        if (function.Restriction is { Disabled: true } || !function.TryResolve(qualifier, RequestId, out var version))
        {
            // Nothing is refused for what may just have changed through another gateway.
            function = await NeedFunctionAsync(name);
            version = function.TryResolve(qualifier, RequestId, out var now) ? now : throw ApiErrors.QualifierNotFound(qualifier);
            if (function.Restriction is { Disabled: true } restriction)
            {
                throw ApiErrors.InvocationDisabled(name, restriction.Reason);
            }
        }

        return (function, version);
    }

    /// <summary>As <see cref="NeedDefinitionAsync"/>, of a function that takes calls.</summary>
    public async Task<FunctionSnapshot> NeedCallableAsync(string function, string qualifier)
    {
        var found = await NeedDefinitionAsync(function, qualifier);
        return found.Restriction is { Disabled: true } restriction ? throw ApiErrors.InvocationDisabled(function, restriction.Reason) : found;
    }

    /// <summary>
    /// Asks until there is an answer, together with all such waits of this request for at most 4 s. A silo that goes away
    /// takes an answer with it, and the question has to be put again: it must be one that may be put twice. What was asked
    /// for may still happen afterwards.
    /// </summary>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<T> InTimeAsync<T>(Func<Task<T>> ask)
    {
        var patience = FirstTry;
        while (true)
        {
            try
            {
                var answer = ask();

                // Nobody else looks at how it ends after a timeout.
                answer.Ignore();
                var left = Left;
                return await answer.WaitAsync(left < patience ? left : patience);
            }
            catch (Exception e) when (IsNoAnswer(e) && Left > Pause)
            {
                // A store that is slow is not made faster by more questions, so a second one is left all the time there is.
                patience = e is TimeoutException ? Patience : patience;
                await Task.Delay(Pause);
            }
        }
    }

    /// <summary>True if whoever was asked may have gone before it could answer.</summary>
    private static bool IsNoAnswer(Exception e) => e is TimeoutException or OrleansException;

    private TimeSpan Left => Patience - Stopwatch.GetElapsedTime(begun) is var left && left > TimeSpan.Zero ? left : TimeSpan.Zero;

    /// <summary>The same for what must not be asked twice: waits for the one answer.</summary>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<T> InTimeAsync<T>(Task<T> answer)
    {
        answer.Ignore();
        return await answer.WaitAsync(Left);
    }

    /// <summary>The body as one JSON object.</summary>
    public JsonDocument JsonBody() => Validation.JsonBody.Parse(body);

    public Task JsonAsync(Action<Utf8JsonWriter> write, int status = StatusCodes.Status200OK) => JsonAnswer.WriteAsync(http, status, write);

    public Task NoContentAsync()
    {
        http.Response.StatusCode = StatusCodes.Status204NoContent;
        return Task.CompletedTask;
    }

    /// <summary>A part of the path that becomes no grain key: at most 128 visible characters.</summary>
    public string Named(string name) =>
        RouteText(name) is { Length: > 0 and <= 128 } text && text.All(c => c is > ' ' and <= '~')
            ? text
            : throw ApiErrors.InvalidArgument($"{name}: must be 1 to 128 visible characters.");

    public string RouteText(string name) => http.Request.RouteValues[name] as string ?? "";
}

/// <summary>Marks an endpoint that <see cref="ApiRoutes.MapApi"/> made.</summary>
internal sealed record ApiRoute(string Method, Access Access);

/// <summary>How a path is hooked up: authenticate, read, check, call, translate.</summary>
internal static class ApiRoutes
{
    /// <summary>Maps one operation.</summary>
    /// <param name="routes">Where.</param>
    /// <param name="method">HTTP method.</param>
    /// <param name="pattern">Path.</param>
    /// <param name="handle">What it does.</param>
    /// <param name="access">Whose keys open it.</param>
    /// <param name="limit">Longest body; the management limit if left out.</param>
    /// <param name="audited">Whether its success is a change that the audit log keeps; reading never is.</param>
    public static void MapApi(
        this IEndpointRouteBuilder routes, string method, string pattern, Func<ApiCall, Task> handle,
        Access access = Access.Account, Func<HttpContext, GatewayOptions, int>? limit = null,
        bool audited = true)
    {
        var services = routes.ServiceProvider;
        var authenticator = services.GetRequiredService<Authenticator>();
        var budget = services.GetRequiredService<BodyBudget>();
        var options = services.GetRequiredService<IOptions<GatewayOptions>>().Value;
        var grains = services.GetRequiredService<IGrainFactory>();
        var rates = services.GetRequiredService<RateLimits>();
        var audit = services.GetRequiredService<AuditTrail>();
        var functions = services.GetRequiredService<FunctionCache>();
        routes.MapMethods(pattern, [method], async http =>
        {
            var caller = await authenticator.AuthenticateAsync(http.Request);
            Permit(caller, access);
            rates.Take(caller);
            HeaderLimits.Check(http.Request);
            using var share = budget.Open();
            var body = await RequestBody.ReadAsync(http, limit?.Invoke(http, options) ?? options.MaxManagementBodyBytes, caller.BodyHash, share);
            if (audited && method != "GET")
            {
                audit.Watch(http, caller, ApiTable.OperationOf(http));
            }

            await handle(new ApiCall(http, caller, body, grains, functions, options));
        }).WithMetadata(new ApiRoute(method, access));
    }

    private static void Permit(Caller caller, Access access)
    {
        switch (access)
        {
            case Access.Operator when !caller.IsOperator:
                throw ApiErrors.AccessDenied("This needs the operator key.");
            case Access.Account when caller.IsOperator:
                throw ApiErrors.AccessDenied("The operator key belongs to no account; use an account's key.");
        }
    }
}

/// <summary>The contract's limits on what stands before the body (contract 3).</summary>
internal static class HeaderLimits
{
    private const int MaxHeaderBytes = 8_192;
    private const int MaxTargetBytes = 4_096;

    public static void Check(HttpRequest request)
    {
        if (request.Path.Value!.Length + request.QueryString.Value!.Length > MaxTargetBytes)
        {
            throw ApiErrors.InvalidArgument($"path and query: must have at most {MaxTargetBytes} bytes together.");
        }

        var bytes = 0L;
        foreach (var (name, values) in request.Headers)
        {
            bytes += values.Sum(value => name.Length + (value?.Length ?? 0) + 4L);
        }

        if (bytes > MaxHeaderBytes)
        {
            throw ApiErrors.InvalidArgument($"headers: must have at most {MaxHeaderBytes} bytes together, had {bytes}.");
        }
    }
}
