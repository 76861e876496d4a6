using System.Diagnostics.CodeAnalysis;
using GpuTasks.Functions;

namespace GpuTasks.Destinations;

/// <summary>Who hears of a task's end, as written in an async config. Exactly one of its members besides the account is set.</summary>
public sealed record DestinationTarget
{
    /// <summary>Longest text of a target.</summary>
    public const int MaxLength = 2_048;

    private const string TopicPrefix = "topic:";

    /// <summary>Account that the text names; empty stands for the caller's own.</summary>
    public string Account { get; private init; } = "";

    /// <summary>A function: <c>acs:fc:{region}:{account}:functions/{name}[/{qualifier}]</c>.</summary>
    public FunctionArn? Function { get; private init; }

    /// <summary>A webhook: an absolute <c>https://</c> or <c>http://</c> address without user and fragment.</summary>
    public Uri? Webhook { get; private init; }

    /// <summary>An internal topic: <c>topic:{name}</c>, or the contract's form <c>acs:mns:{region}:{account}:/topics/{name}/messages</c>.</summary>
    public string? Topic { get; private init; }

    /// <summary>Reads a target; whether it may be used is another question.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out DestinationTarget? target)
    {
        target = text.Length > MaxLength ? null
            : FunctionArn.TryParse(text, out var function) ? new DestinationTarget { Account = function.Account, Function = function }
            : text.StartsWith(TopicPrefix, StringComparison.Ordinal) ? OfTopic("", text[TopicPrefix.Length..])
            : text.Split(':', 5) is ["acs", "mns", _, var account, var resource] && resource.TrimStart('/').Split('/') is ["topics", var topic, "messages"]
                ? OfTopic(account, topic)
            : OfWebhook(text);
        return target is not null;
    }

    /// <summary>Whether a topic may have this name: 1 to 128 letters, digits, <c>-</c>, <c>_</c>, the first a letter.</summary>
    public static bool IsTopicName(string name) =>
        name.Length is > 0 and <= 128 && char.IsAsciiLetter(name[0]) && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_');

    private static DestinationTarget? OfTopic(string account, string name) => IsTopicName(name) ? new DestinationTarget { Account = account, Topic = name } : null;

    private static DestinationTarget? OfWebhook(string text) =>
        text.All(c => c is > ' ' and not '\u007f')
        && Uri.TryCreate(text, UriKind.Absolute, out var url)
        && (url.Scheme == Uri.UriSchemeHttps || url.Scheme == Uri.UriSchemeHttp)
        && url is { Host.Length: > 0, UserInfo.Length: 0, Fragment.Length: 0, Port: > 0 }
            ? new DestinationTarget { Webhook = url }
            : null;
}
