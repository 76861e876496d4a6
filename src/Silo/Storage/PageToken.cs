using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace GpuTasks.Storage;

/// <summary>Where a page of a task list ended. Opaque to callers; bound to the order and the function it came from.</summary>
internal readonly record struct PageToken(long EnqueuedAt, string TaskId)
{
    public string Encode(string account, string function, bool ascending) => Base64Url.EncodeToString(
        Encoding.UTF8.GetBytes($"{Head(account, function, ascending)}{EnqueuedAt.ToString(CultureInfo.InvariantCulture)}/{TaskId}"));

    /// <exception cref="FormatException">The token is not from an earlier page of this list.</exception>
    public static PageToken Decode(string token, string account, string function, bool ascending)
    {
        try
        {
            var text = Strict.GetString(Base64Url.DecodeFromChars(token));
            var head = Head(account, function, ascending);
            if (text.StartsWith(head, StringComparison.Ordinal)
                && text[head.Length..].Split('/') is [var at, var taskId]
                && long.TryParse(at, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var enqueuedAt)
                && KeyRange.IsPossible(taskId))
            {
                return new PageToken(enqueuedAt, taskId);
            }
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            // Told below in our own words.
        }

        throw new FormatException("The page token was not made by an earlier page of this list.");
    }

    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private static string Head(string account, string function, bool ascending) => $"1/{(ascending ? 'a' : 'd')}/{account}/{function}/";
}
