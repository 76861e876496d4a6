using GpuTasks.Gateway.Validation;

namespace GpuTasks.Gateway.Http;

/// <summary>A request that ends with an error of the contract (section 4).</summary>
/// <param name="status">HTTP status.</param>
/// <param name="code">Stable code.</param>
/// <param name="message">For people; names the field and what is allowed.</param>
internal sealed class ApiException(int status, string code, string message) : Exception(message)
{
    public int Status { get; } = status;

    public string Code { get; } = code;

    /// <summary>Seconds after which a repeat makes sense, or null.</summary>
    public int? RetryAfterSeconds { get; init; }
}

/// <summary>Every error that the gateway gives, in one place.</summary>
internal static class ApiErrors
{
    public const string FunctionNotFoundCode = "FunctionNotFound";

    public static ApiException InvalidArgument(string message) => new(400, "InvalidArgument", message);

    public static ApiException MissingRequiredHeader(string name) =>
        new(400, "MissingRequiredHeader", $"Header '{name}' is required.");

    public static ApiException PathNotSupported(string method, string path) =>
        new(400, "PathNotSupported", $"{method} {path} is not supported.");

    public static ApiException EntityTooLarge(long limit) =>
        new(400, "EntityTooLarge", $"The body is longer than the {limit} bytes that this call allows.");

    public static ApiException AccessDenied(string message) => new(403, "AccessDenied", message);

    public static ApiException SignatureNotMatch(string message) => new(403, "SignatureNotMatch", message);

    public static ApiException InvalidAccessKeyId(string message) => new(403, "InvalidAccessKeyID", message);

    public static ApiException FunctionNotFound(string function) =>
        new(404, FunctionNotFoundCode, $"Function '{function}' does not exist.");

    public static ApiException VersionNotFound(string version) =>
        new(404, "VersionNotFound", $"Version '{Names.Shown(version)}' does not exist.");

    public static ApiException AliasNotFound(string alias) =>
        new(404, "AliasNotFound", $"Alias '{Names.Shown(alias)}' does not exist.");

    public static ApiException QualifierNotFound(string qualifier) =>
        qualifier.All(char.IsAsciiDigit) ? VersionNotFound(qualifier) : AliasNotFound(qualifier);

    public static ApiException AliasAlreadyExists(string alias) =>
        new(409, "AliasAlreadyExists", $"Alias '{alias}' exists already.");

    public static ApiException LimitExceeded(string message) => new(400, "LimitExceededError", message);

    public static ApiException InvocationDisabled(string function, string reason) =>
        new(403, "AccessDenied", $"Calls of function '{function}' are disabled{(reason.Length > 0 ? $": {reason}" : "")}.");

    /// <summary>Part of the contract, but not of this platform.</summary>
    public static ApiException NotOffered(string what) => new(400, "PathNotSupported", $"This platform has no {what}.");

    public static ApiException AsyncConfigNotExists(string function) =>
        new(404, "AsyncConfigNotExists", $"Function '{function}' has no async invoke config.");

    public static ApiException OnDemandConfigNotFound(string function) =>
        new(404, "OnDemandConfigNotFound", $"Function '{function}' has no concurrency config.");

    public static ApiException AsyncTaskNotFound(string taskId) =>
        new(404, "AsyncTaskNotFound", $"Task '{taskId}' does not exist.");

    public static ApiException ResultNotFound(string taskId) =>
        new(404, "ResultNotFound", $"Task '{taskId}' has no answer; its status says why.");

    public static ApiException LogNotFound(string taskId, int attempt) =>
        new(404, "LogNotFound", $"No log of task '{taskId}', attempt {attempt} is kept any more.");

    public static ApiException DeadLetterNotFound(string taskId) =>
        new(404, "DeadLetterNotFound", $"Task '{taskId}' has no message that could not be delivered.");

    public static ApiException TopicNotFound(string topic) => new(404, "TopicNotFound", $"Topic '{topic}' does not exist.");

    public static ApiException NodeNotFound(string node) => new(404, "NodeNotFound", $"The region knows no node '{node}'.");

    public static ApiException CardNotFound(string card) => new(404, "CardNotFound", $"No node of the region has a card '{card}'.");

    public static ApiException FunctionAlreadyExists(string function) =>
        new(409, "FunctionAlreadyExists", $"Function '{function}' exists already.");

    public static ApiException TaskAlreadyExists(string taskId) =>
        new(409, "StatefulAsyncInvocationAlreadyExists", $"Task id '{taskId}' is taken; no second task was made.");

    public static ApiException ConcurrentUpdate(string function) =>
        new(409, "ConcurrentUpdateError", $"Function '{function}' is being changed by others; read it again and repeat.");

    public static ApiException ResourceExhausted(string message) => new(429, "ResourceExhausted", message) { RetryAfterSeconds = 5 };

    public static ApiException RateLimited(int seconds) =>
        new(429, "ResourceThrottled", "The account asks for more than its limit of requests; repeat the call later.") { RetryAfterSeconds = seconds };

    public static ApiException AccountNotFound(string account) => new(404, "AccountNotFound", $"Account '{account}' does not exist.");

    public static ApiException AccountAlreadyExists(string account) => new(409, "AccountAlreadyExists", $"Account '{account}' exists already.");

    public static ApiException KeyNotFound(string account, string key) => new(404, "KeyNotFound", $"Account '{account}' has no key '{key}'.");

    public static ApiException TriggerNotFound(string trigger) => new(404, "TriggerNotFound", $"Trigger '{trigger}' does not exist.");

    public static ApiException TriggerAlreadyExists(string trigger) => new(409, "TriggerAlreadyExists", $"Trigger '{trigger}' exists already.");

    /// <summary>The caller went away; nobody reads this answer, but logs count it.</summary>
    public static ApiException ClientClosedRequest() => new(499, "ClientClosedRequest", "The caller went away.");

    public static ApiException Internal() => new(500, "InternalServerError", "Something failed inside the platform; its log has the request id.");

    public static ApiException PlatformFault(string what) => new(500, "InternalServerError", $"The platform failed, not the function: {what}");

    /// <summary>Storage, a silo or a node does not answer. What was asked for may or may not have happened.</summary>
    public static ApiException Unavailable() =>
        new(503, "ResourceThrottled", "The platform cannot answer just now; repeat the call, with the same task id if there was one.") { RetryAfterSeconds = 2 };
}
