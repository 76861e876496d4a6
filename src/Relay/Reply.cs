using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>An answer on the control socket: JSON, a file's bytes, or nothing.</summary>
internal sealed class Reply
{
    internal required int Status { get; init; }

    internal byte[] Body { get; private init; } = [];

    internal string? FilePath { get; private init; }

    internal long Length { get; private init; }

    /// <summary>What stands before the bytes of a streamed answer.</summary>
    internal AnswerHead? Head { get; private init; }

    internal bool IsBytes => FilePath is not null || Head is not null;

    internal static Reply Empty(int status) => new() { Status = status };

    internal static Reply Of(StatusDocument status) => OfJson(200, JsonSerializer.SerializeToUtf8Bytes(status, Json.Default.StatusDocument));

    internal static Reply Of(int status, RunDocument run) => OfJson(status, JsonSerializer.SerializeToUtf8Bytes(run, Json.Default.RunDocument));

    internal static Reply Refuse(int status, string error, string message) =>
        OfJson(status, JsonSerializer.SerializeToUtf8Bytes(new ErrorDocument(error, message), Json.Default.ErrorDocument));

    internal static Reply Of(AnswerHead head, byte[] bytes) => new() { Status = 200, Head = head, Body = bytes, Length = bytes.Length };

    internal static Reply Of(BodyReceipt receipt) => OfJson(200, JsonSerializer.SerializeToUtf8Bytes(receipt, Json.Default.BodyReceipt));

    internal static Reply File(string path, long length) => new() { Status = 200, FilePath = path, Length = length };

    internal static string Phrase(int status) => status switch
    {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        _ => "Insufficient Storage",
    };

    private static Reply OfJson(int status, byte[] body) => new() { Status = status, Body = body, Length = body.Length };
}
