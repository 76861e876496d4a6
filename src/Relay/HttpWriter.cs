using System.Net.Sockets;
using System.Text;

namespace GpuTasks.Relay;

/// <summary>Writes heads and bodies to a socket.</summary>
internal static class HttpWriter
{
    /// <summary>Whether name and value may stand in a header: nothing in them can end it and begin another.</summary>
    internal static bool IsSafeHeader(string name, string value) =>
        name.Length > 0 && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.')
        && !value.AsSpan().ContainsAny('\r', '\n', '\0');

    internal static bool IsSafeTarget(string target) => target.StartsWith('/') && !target.Any(c => c <= ' ' || c == 0x7f);

    internal static async ValueTask WriteHeadAsync(
        Socket socket, string firstLine, IEnumerable<KeyValuePair<string, string>> headers, CancellationToken cancellationToken)
    {
        var text = new StringBuilder(firstLine).Append("\r\n");
        foreach (var (name, value) in headers)
        {
            text.Append(name).Append(": ").Append(value).Append("\r\n");
        }

        await WriteAsync(socket, Encoding.UTF8.GetBytes(text.Append("\r\n").ToString()), cancellationToken);
    }

    internal static async ValueTask WriteAsync(Socket socket, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (!bytes.IsEmpty)
        {
            bytes = bytes[await socket.SendAsync(bytes, cancellationToken)..];
        }
    }

    /// <summary>Writes a body while it comes, to its end.</summary>
    internal static async Task WriteStreamAsync(Socket socket, StreamWindow body, bool chunked, CancellationToken cancellationToken)
    {
        for (long sent = 0; ;)
        {
            var (bytes, last) = await body.ReadAsync(sent, 64 * 1024, TimeSpan.FromMinutes(1), cancellationToken)
                ?? throw new HttpWireException("The body has a hole.");
            if (bytes.Length > 0)
            {
                await WriteAsync(socket, chunked ? [.. Encoding.ASCII.GetBytes($"{bytes.Length:x}\r\n"), .. bytes, (byte)'\r', (byte)'\n'] : bytes, cancellationToken);
                sent += bytes.Length;
            }

            if (last)
            {
                await WriteAsync(socket, chunked ? "0\r\n\r\n"u8.ToArray() : ReadOnlyMemory<byte>.Empty, cancellationToken);
                return;
            }
        }
    }

    internal static async ValueTask WriteFileAsync(Socket socket, string path, long length, CancellationToken cancellationToken)
    {
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var buffer = new byte[64 * 1024];
        for (long sent = 0; sent < length;)
        {
            var count = RandomAccess.Read(file, buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - sent)), sent);
            if (count == 0)
            {
                throw new HttpWireException($"{path} is shorter than it was.");
            }

            await WriteAsync(socket, buffer.AsMemory(0, count), cancellationToken);
            sent += count;
        }
    }
}
